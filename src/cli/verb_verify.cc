#include <cstdio>

#include "cli/engine_options.h"
#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/verbs.h"
#include "replay/replay_access.h"
#include "replay/replay_session.h"
#include "timeline/recorded_state.h"

namespace deja {
namespace {

int verify(const std::filesystem::path& dir, const EngineOptions& engine, bool stats) {
  RealHostClock clock;
  NullSerialOutput nowhere;
  ReplayRequest request{dir, engine, "", false, {}};
  request.compare = [&](const Divergence& d, Machine& m) { return differences_from_recorded(dir, d, m); };
  auto report = run_replay(request, nowhere, clock);
  if (!report) return fail(report.error());
  if (!report->note.empty()) note("{}", report->note);
  if (stats) tell("{}", Lines{engine_text({report->counters, report->instructions, report->host_ns})});
  // Scripts read this line; docs and tests hold its form.
  if (report->divergence) {
    tell("{}", Lines{report->divergence_report});
    say("DIVERGED at step {}: {}\n", report->divergence->step, report->divergence->reason);
    return kExitError;
  }
  say("identical: {} instructions, {} digests\n", report->instructions, report->digests);
  return kExitOk;
}

}  // namespace

void add_verify(CLI::App& app, Action* action) {
  struct Options {
    EngineArguments engine;
    std::vector<std::string> recordings;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
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
    *action = [o] {
      auto engine = o->engine.apply();
      if (!engine) return fail(engine.error());
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
        if ((dirs[i] ? verify(*dirs[i], *engine, o->engine.stats) : fail(dirs[i].error())) != kExitOk)
          status = kExitError;
        std::fflush(stdout);
      }
      return status;
    };
  });
}

}  // namespace deja
