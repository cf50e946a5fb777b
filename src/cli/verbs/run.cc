#include "cli/session_report.h"
#include "cli/verbs/verbs.h"

namespace deja {

void add_run(Command& app, Action* action) {
  struct Options {
    MachineOptions machine;
    EngineArguments engine;
    std::string recordings;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("run", "Run a guest without recording it, until you ask for that");
  verb->footer(
      "Examples:\n"
      "  deja run debian.qcow2\n"
      "  deja run -m 512M --kernel vmlinuz --initrd initrd.img --append console=ttyS0\n"
      "Ctrl-A x ends the session, Ctrl-A c opens the monitor, Ctrl-A h lists the keys.\n"
      "The monitor's `record start [NAME]` begins a recording, `record stop` ends it.");
  verb->add_option(
      "--recordings", o->recordings,
      "the directory for recordings that begin in mid-run [${XDG_DATA_HOME:-~/.local/share}/deja]");
  o->machine.add_to(*verb);
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    o->machine.check_guest();
    *action = [o]() -> Result<int> {
      SessionRequest request;
      request.recordings_dir = o->recordings;
      return run_and_report(o->machine, o->engine, std::move(request));
    };
  });
}

}  // namespace deja
