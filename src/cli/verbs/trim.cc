#include "timeline/trim.h"
#include "cli/messages.h"
#include "cli/options/checkpoint_interval.h"
#include "cli/options/moment.h"
#include "cli/progress_bar.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "replay/record_session.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, from = "start", to = "end", name, every;
};

Result<int> trim(const Options& o) {
  DEJA_ASSIGN(auto engine, o.engine.apply());
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  RealHostClock clock;
  // What the window goes to is made before the guest runs.
  DEJA_ASSIGN(auto future, FutureRecording::make(o.name, clock.wall_unix_ns()));
  DEJA_ASSIGN(auto nav, open_recording(dir, engine));
  DEJA_ASSIGN(auto from, find_position(*nav, o.from));
  DEJA_ASSIGN(auto to, find_position(*nav, o.to));
  TrimRequest request;
  request.from = from;
  request.to = to;
  request.name = o.name;
  request.interval = kCheckpointInterval;
  if (!o.every.empty()) {
    DEJA_ASSIGN(auto interval, parse_checkpoint_interval("--checkpoint-every", o.every));
    request.interval = interval ? interval : kNeverStep / 2;
  }
  ProgressBar bar("trim");
  request.progress = [&](Step done, Step all) { bar.update(done - from, all - from); };
  auto report = trim_recording(*nav, request, clock);
  bar.clear();
  if (!report) return report.error();
  say("{}: steps {} to {}, {}, {} of {}\n", report->dir.string(), format_count(from), format_count(to),
      counted(report->events, "event"), counted(report->checkpoints, "checkpoint"),
      bytes(report->checkpoint_bytes));
  return kExitOk;
}

}  // namespace

void add_trim(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("trim", "Make a recording of a window of another");
  verb->footer(
      "The new recording begins with the whole machine as it was at the window's start. Its steps have the\n"
      "numbers that they have in the old one, every command takes it, and what came before is not in it but "
      "for\nwhat the guest's memory and disks still held.\n"
      "Examples:\n"
      "  deja trim crash --from -2s -o crash-end\n"
      "  deja trim crash --from 'serial:\"login:\"#1' --to panic");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--from", o->from, "where it begins: docs/time-travel.md has all forms")
      ->capture_default_str();
  verb->add_option("--to", o->to, "where it ends")->capture_default_str();
  verb->add_option("-o,--output", o->name, "name of the new recording, or a path with a slash [the date]");
  verb->add_option("--checkpoint-every", o->every,
                   "steps between its checkpoints, such as 50M, or off [200M]");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return trim(*o); }; });
}

}  // namespace deja
