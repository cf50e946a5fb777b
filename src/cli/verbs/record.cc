#include "cli/messages.h"
#include "cli/options/checkpoint_interval.h"
#include "cli/options/keep_option.h"
#include "cli/session_report.h"
#include "cli/verbs/verbs.h"

namespace deja {

void add_record(Command& app, Action* action) {
  struct Options {
    MachineOptions machine;
    EngineArguments engine;
    std::string name;
    std::string checkpoint_every;
    std::string keep;
    bool no_copy = false;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("record", "Run a guest and record everything that it does");
  verb->footer(
      "Examples:\n"
      "  deja record debian.qcow2 --nic user,hostfwd=tcp::2222-:22\n"
      "  deja record -m 512M --kernel vmlinuz --initrd initrd.img --append console=ttyS0\n"
      "  deja record -o crash -kernel bzImage -append \"console=ttyS0 panic=-1\" -nographic -no-reboot\n"
      "  deja record --kernel vmlinuz --initrd initrd.img --append \"console=ttyS0 root=/dev/vda\" \\\n"
      "    --drive file=debian.qcow2 --nic user,hostfwd=tcp::2222-:22\n"
      "  deja record --keep 10m debian.qcow2      a flight recorder: only the last ten minutes stay\n"
      "Ctrl-A x ends the recording, Ctrl-A c opens the monitor, Ctrl-A h lists the keys.\n"
      "Then: deja replay latest");
  verb->add_option(
      "-o,--output", o->name,
      "name of the recording, or a path with a slash [the date, in ${XDG_DATA_HOME:-~/.local/share}/deja]");
  verb->add_flag("--no-copy-inputs", o->no_copy,
                 "only refer to kernel and initrd by their path; the recording is then not self-contained");
  verb->add_option("--checkpoint-every", o->checkpoint_every,
                   "steps between checkpoints, such as 50M, or `off` [200M]: the smaller, the faster can be "
                   "gone to any moment");
  verb->add_option(
      "--keep", o->keep,
      "keep only the last so much of the host's time, such as 30s, 10m or 2h, and at most half as "
      "much again; what is older falls away while the recording goes on");
  o->machine.add_to(*verb);
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    o->machine.check_guest();
    *action = [o]() -> Result<int> {
      SessionRequest request;
      request.record_at_once = true;
      RecordingRequest& recording = request.recording;
      recording.name = o->name;
      if (o->no_copy) recording.storage = InputStorage::reference;
      if (!o->checkpoint_every.empty()) {
        DEJA_ASSIGN(auto interval, parse_checkpoint_interval("--checkpoint-every", o->checkpoint_every));
        recording.checkpoint_interval = interval;
      }
      if (!o->keep.empty()) {
        DEJA_ASSIGN(auto keep, parse_keep(o->keep));
        recording.keep_ns = keep;
        if (!recording.checkpoint_interval)
          return make_error("--keep needs checkpoints: it does not go with --checkpoint-every off");
      }
      return run_and_report(o->machine, o->engine, std::move(request));
    };
  });
}

}  // namespace deja
