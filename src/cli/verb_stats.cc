#include <cstdio>

#include "cli/engine_options.h"
#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/verbs.h"
#include "replay/replay_session.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

struct StatsOptions {
  EngineArguments engine;
  std::string recording, to;
  bool json = false;
};

int stats(const StatsOptions& o) {
  auto engine = o.engine.apply();
  if (!engine) return fail(engine.error());
  RealHostClock clock;
  auto dir = resolve_recording(o.recording);
  if (!dir) return fail(dir.error());
  NullSerialOutput nowhere;
  std::string to;
  if (!o.to.empty()) {
    auto step = find_position(*dir, *engine, o.to);
    if (!step) return fail(step.error());
    to = std::to_string(*step);
  }
  auto report = run_replay({*dir, *engine, to, false, {}}, nowhere, clock);
  if (!report) return fail(report.error());
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

void add_stats(CLI::App& app, Action* action) {
  auto o = std::make_shared<StatsOptions>();
  CLI::App* verb =
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
  verb->final_callback([o, action] { *action = [o] { return stats(*o); }; });
}

}  // namespace deja
