#include <cstdio>

#include "cli/messages.h"
#include "cli/options/engine_options.h"
#include "cli/verbs/verbs.h"
#include "inputs/host_clock.h"
#include "replay/bisect.h"
#include "replay/position.h"
#include "replay/replay_session.h"
#include "replay/survey.h"

namespace deja {
namespace {

// One instruction a block, nothing inlined, nothing linked: least to go wrong.
EngineOptions plainest_engine() {
  EngineOptions o;
  o.translate.max_insns = 1;
  for (const EngineSwitch& s : kEngineSwitches) o.translate.*s.on = false;
  return o;
}

bool is_default(const EngineOptions& o) { return engine_arguments(o).empty(); }

std::string name_of(const EngineOptions& o) {
  return is_default(o) ? "the default engine" : engine_arguments(o);
}

// The optimisations without which the replay does not differ: the translator's mistake is likely there.
Result<std::string> switches_at_fault(const ReplayRequest& request, HostClock& clock) {
  std::string found;
  for (const EngineSwitch& s : kEngineSwitches) {
    ReplayRequest without = request;
    if (!(without.engine.translate.*s.on)) continue;
    without.engine.translate.*s.on = false;
    note("replaying with {}", name_of(without.engine));
    NullSerialOutput nowhere;
    auto replay = run_replay(without, nowhere, clock);
    if (!replay) return replay.error();
    if (!replay->divergence) found += show("{}no-{}", found.empty() ? "" : ", ", s.name);
  }
  return found;
}

Result<int> bisect(const std::string& name, const EngineOptions& other, const std::string& against) {
  RealHostClock clock;
  DEJA_ASSIGN(auto dir, resolve_recording(name));
  BisectRequest request;
  request.dir = dir;
  request.other = other;
  request.progress = [](const std::string& line) { note("{}", line); };
  if (!against.empty()) {
    DEJA_TRY(parse_engine_list(against, &request.reference));
  } else if (is_default(other)) {
    request.reference = plainest_engine();
  }

  // Where to look: does the replay differ from the recording at all?
  NullSerialOutput nowhere;
  note("replaying with {}", name_of(other));
  const ReplayRequest whole{dir, other, "", false, {}};
  DEJA_ASSIGN(auto replay, run_replay(whole, nowhere, clock));
  if (!replay.divergence) {
    say("The replay with {} is identical to the recording ({} digests): there is nothing to narrow.\n",
        name_of(other), replay.digests);
    return kExitOk;
  }
  const Divergence& d = *replay.divergence;
  request.to = d.step;
  say("The replay with {} differs from the recording after step {}: {}.\n", name_of(other),
      format_count(d.step), d.reason);
  DEJA_ASSIGN(auto switches, switches_at_fault(whole, clock));
  if (!switches.empty())
    say("It is identical with each of these alone (--engine LIST): {}. Look there first.\n", switches);
  say("Comparing it with {} (the reference), step by step.\n", name_of(request.reference));
  std::fflush(stdout);
  DEJA_ASSIGN(auto report, run_bisect(request));
  if (report.differ) {
    say("{}DIVERGED at step {}\n", Lines{report.text}, report.step);
    return kExitError;
  }
  say("{}So it is the recording that differs from both, between steps {} and {}: what the recorder did there "
      "is not\n"
      "what its log makes a machine do. The log's events there:\n  deja dump --from {} --to {} {}\n"
      "Another engine to compare with: deja bisect --chaos-engine SEED {}\n",
      Lines{report.text}, format_count(d.last_good), format_count(d.step), d.last_good, d.step, dir.string(),
      dir.string());
  return kExitError;
}

}  // namespace

void add_bisect(Command& app, Action* action) {
  struct Options {
    EngineArguments engine;
    std::string recording, against;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("bisect", "Find the first instruction at which a replay goes wrong");
  verb->footer(
      "Runs two engines side by side from the same log, and narrows the first difference between them to one "
      "step. Names the optimisations without which there is none.\n"
      "Examples:\n"
      "  deja bisect crash                     the default engine against one that does nothing clever\n"
      "  deja bisect --chaos-engine 7 crash    the disturbed engine against the default one");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--against", o->against, "engine options of the reference, as for --engine");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_ASSIGN(auto engine, o->engine.apply());
      return bisect(o->recording, engine, o->against);
    };
  });
}

}  // namespace deja
