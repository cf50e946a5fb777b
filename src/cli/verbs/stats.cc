#include <cstdio>

#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/options/engine_options.h"
#include "cli/verbs/verbs.h"
#include "replay/replay_session.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

struct StatsOptions {
  EngineArguments engine;
  std::string recording, to;
  bool json = false;
};

Result<int> stats(const StatsOptions& o) {
  DEJA_ASSIGN(auto engine, o.engine.apply());
  RealHostClock clock;
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  NullSerialOutput nowhere;
  std::string to;
  if (!o.to.empty()) {
    DEJA_ASSIGN(auto step, find_position(dir, engine, o.to));
    to = std::to_string(step);
  }
  auto report = run_replay({dir, engine, to, false, {}}, nowhere, clock);
  if (!report) return report.error();
  if (!report->note.empty()) note("{}", report->note);
  note_damage(report->damage);
  const EngineRun run{report->counters, report->instructions, report->host_ns};
  if (o.json)
    say("{}\n", Lines{engine_json(run)});
  else
    say("{}", Lines{engine_text(run)});
  if (!report->divergence) return kExitOk;
  tell("{}", Lines{report->divergence_report});
  return kExitError;
}

}  // namespace

void add_stats(Command& app, Action* action) {
  auto o = std::make_shared<StatsOptions>();
  Command* verb =
      app.add_subcommand("stats", "Replay without output and say what the engine had to do for it");
  verb->footer(
      "Examples:\n"
      "  deja stats latest\n"
      "  deja stats --json boot | jq .helpers\n"
      "The counts are of this replay; those of the recording run differ a little, since runs are cut "
      "otherwise.");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--to", o->to, "stop there: docs/time-travel.md has all forms");
  verb->add_flag("--json", o->json, "as one JSON object");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return stats(*o); }; });
}

}  // namespace deja
