#include "eventlog/dump.h"
#include "cli/messages.h"
#include "cli/verbs/verbs.h"
#include "replay/survey.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

struct Options {
  std::string recording, kinds, from, to;
};

Status dump(const Options& o) {
  DEJA_ASSIGN(const std::filesystem::path dir, resolve_recording(o.recording));
  DEJA_ASSIGN(Recording first, Recording::open(dir));
  const LogSurvey survey = survey_log(first);
  DumpFilter filter;
  if (!o.kinds.empty()) {
    DEJA_ASSIGN(filter.kinds, parse_kinds(o.kinds));
  }
  if (!o.from.empty()) {
    DEJA_ASSIGN(filter.from, find_position(dir, {}, o.from));
  }
  if (!o.to.empty()) {
    DEJA_ASSIGN(filter.to, find_position(dir, {}, o.to));
  }
  DEJA_ASSIGN(Recording recording, Recording::open(dir));
  const Status status = dump_log(recording.log, filter, [](const std::string& line) { say("{}\n", line); });
  note_damage(survey.damage);
  return survey.damage ? Status() : status;
}

}  // namespace

void add_dump(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("dump", "Print the logged events, one a line: step, kind, content");
  verb->footer(
      "Examples:\n"
      "  deja dump latest\n"
      "  deja dump --kind serial,break --from 50% crash");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--kind", o->kinds, "only these, e.g. serial,digest; a wrong one makes deja list them");
  verb->add_option("--from", o->from, "first position: docs/time-travel.md has all forms");
  verb->add_option("--to", o->to, "last position");
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_TRY(dump(*o));
      return kExitOk;
    };
  });
}

}  // namespace deja
