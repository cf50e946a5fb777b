#include "cli/engine_options.h"
#include "cli/machine_options.h"
#include "cli/messages.h"
#include "cli/session_report.h"
#include "cli/verbs.h"

namespace deja {

void add_run(CLI::App& app, Action* action) {
  struct Options {
    MachineOptions machine;
    EngineArguments engine;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("run", "Run a guest without recording it");
  verb->footer(
      "Example:\n"
      "  deja run -m 512M --kernel vmlinuz --initrd initrd.img --append console=ttyS0\n"
      "Ctrl-A x ends the session, Ctrl-A c opens the monitor, Ctrl-A h lists the keys.");
  o->machine.add_to(*verb);
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    *action = [o] {
      RealHostClock clock;
      SessionRequest request;
      auto engine = o->engine.apply();
      if (!engine) return fail(engine.error());
      request.engine = *engine;
      if (Status status = o->machine.apply(&request, clock); !status) return fail(status.error());
      auto report = run_session(request, clock);
      if (!report) return fail(report.error());
      return report_session(*report, o->engine.stats);
    };
  });
}

}  // namespace deja
