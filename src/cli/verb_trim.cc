#include "cli/checkpoint_interval.h"
#include "cli/messages.h"
#include "cli/moment.h"
#include "cli/progress_bar.h"
#include "cli/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "replay/record_session.h"
#include "timeline/position_finder.h"
#include "timeline/trim.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, from = "start", to = "end", name, every;
};

int trim(const Options& o) {
  auto engine = o.engine.apply();
  if (!engine) return fail(engine.error());
  auto dir = resolve_recording(o.recording);
  if (!dir) return fail(dir.error());
  RealHostClock clock;
  // What the window goes to is made before the guest runs.
  auto future = FutureRecording::make(o.name, clock.wall_unix_ns());
  if (!future) return fail(future.error());
  auto nav = open_recording(*dir, *engine);
  if (!nav) return fail(nav.error());
  auto from = find_position(**nav, o.from);
  if (!from) return fail(from.error());
  auto to = find_position(**nav, o.to);
  if (!to) return fail(to.error());
  TrimRequest request;
  request.from = *from;
  request.to = *to;
  request.name = o.name;
  request.interval = kCheckpointInterval;
  if (!o.every.empty()) {
    auto interval = parse_checkpoint_interval("--checkpoint-every", o.every);
    if (!interval) return fail(interval.error());
    request.interval = *interval ? *interval : kNeverStep / 2;
  }
  ProgressBar bar("trim");
  request.progress = [&](Step done, Step all) { bar.update(done - *from, all - *from); };
  auto report = trim_recording(**nav, request, clock);
  bar.clear();
  if (!report) return fail(report.error());
  say("{}: steps {} to {}, {} events, {} checkpoints of {}\n", report->dir.string(), format_count(*from),
      format_count(*to), format_count(report->events), report->checkpoints, bytes(report->checkpoint_bytes));
  return kExitOk;
}

}  // namespace

void add_trim(CLI::App& app, Action* action) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("trim", "Make a recording of a window of another");
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
  verb->final_callback([o, action] { *action = [o] { return trim(*o); }; });
}

}  // namespace deja
