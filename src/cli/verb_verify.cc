#include <cstdio>

#include "cli/engine_options.h"
#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/verbs.h"
#include "replay/replay_session.h"

namespace deja {
namespace {

int verify(const std::string& name, const EngineOptions& engine, bool stats) {
  RealHostClock clock;
  auto dir = resolve_recording(name);
  if (!dir) return fail(dir.error());
  NullSerialOutput nowhere;
  auto report = run_replay({*dir, engine, "", false}, nowhere, clock);
  if (!report) return fail(report.error());
  if (!report->note.empty()) note(report->note);
  if (stats)
    std::fputs(engine_text({report->counters, report->instructions, report->host_ns}).c_str(), stderr);
  // Scripts read this line; docs and tests hold its form.
  if (report->divergence) {
    std::fputs(report->divergence_report.c_str(), stderr);
    fmt::print("DIVERGED at step {}: {}\n", report->divergence->step, report->divergence->reason);
    return kExitError;
  }
  fmt::print("identical: {} instructions, {} digests\n", report->instructions, report->digests);
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
      int status = kExitOk;
      for (const std::string& name : o->recordings) {
        if (o->recordings.size() > 1) fmt::print("{}:\n", name);
        if (verify(name, *engine, o->engine.stats) != kExitOk) status = kExitError;
        std::fflush(stdout);
      }
      return status;
    };
  });
}

}  // namespace deja
