#include <cstdio>

#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/options/engine_options.h"
#include "cli/verbs/verbs.h"
#include "replay/replay_access.h"
#include "replay/replay_session.h"
#include "timeline/recorded_state.h"

namespace deja {
namespace {

Result<int> verify(const std::filesystem::path& dir, const EngineOptions& engine, bool stats) {
  RealHostClock clock;
  NullSerialOutput nowhere;
  ReplayRequest request{dir, engine, "", false, {}};
  request.compare = [&](const Divergence& d, Machine& m) { return differences_from_recorded(dir, d, m); };
  DEJA_ASSIGN(auto report, run_replay(request, nowhere, clock));
  if (!report.note.empty()) note("{}", report.note);
  if (stats) tell("{}", Lines{engine_text({report.counters, report.instructions, report.host_ns})});
  // Scripts read this line; docs and tests hold its form.
  if (report.divergence) {
    tell("{}", Lines{report.divergence_report});
    say("DIVERGED at step {}: {}\n", report.divergence->step, report.divergence->reason);
    return kExitError;
  }
  say("identical: {} instructions, {} digests\n", report.instructions, report.digests);
  return kExitOk;
}

}  // namespace

void add_verify(Command& app, Action* action) {
  struct Options {
    EngineArguments engine;
    std::vector<std::string> recordings;
  };
  auto o = std::make_shared<Options>();
  Command* verb =
      app.add_subcommand("verify", "Replay without output; the exit status says whether it was identical");
  verb->footer(
      "Examples:\n"
      "  deja verify latest && echo reproducible\n"
      "  deja verify --chaos-engine 7 crash boot\n"
      "Prints `identical: N instructions, M digests` or `DIVERGED at …` for each; status 0 when all are "
      "identical.");
  verb->add_option("REC", o->recordings, "names or paths of recordings, or `latest`")->required();
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_ASSIGN(auto engine, o->engine.apply());
      // All are found before the first is replayed, after which no others can be reached.
      std::vector<Result<std::filesystem::path>> dirs;
      for (const std::string& name : o->recordings) {
        auto dir = resolve_recording(name);
        if (Status allowed = dir ? allow_replay(*dir) : Status(); !allowed) dir = allowed.error();
        dirs.push_back(std::move(dir));
      }
      int status = kExitOk;
      for (std::size_t i = 0; i < dirs.size(); ++i) {
        if (dirs.size() > 1) say("{}:\n", o->recordings[i]);
        // One that cannot be replayed does not keep the others from being verified.
        const Result<int> verified =
            dirs[i] ? verify(*dirs[i], engine, o->engine.stats) : Result<int>(dirs[i].error());
        if ((verified ? verified.value() : fail(verified.error())) != kExitOk) status = kExitError;
        std::fflush(stdout);
      }
      return status;
    };
  });
}

}  // namespace deja
