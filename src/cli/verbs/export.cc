#include "replay/export.h"
#include "cli/messages.h"
#include "cli/options/moment.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording_dir.h"
#include "linux/recorded_kernel.h"
#include "linux/tasks.h"
#include "query/vmcore.h"
#include "replay/position.h"
#include "sandbox/outside_file.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, what, at = "end", file;
  unsigned drive = 0;
};

Result<int> export_traffic(const Options& o) {
  DEJA_ASSIGN(auto engine, o.engine.apply());
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  DEJA_ASSIGN(auto frames, export_pcap(dir, engine, o.file));
  say("{}: {} frames\n", o.file, format_count(frames));
  return kExitOk;
}

Result<int> export_moment(const Options& o) {
  DEJA_TRY(prepare_outside_file(o.file));
  if (o.what == "pcap") return export_traffic(o);
  DEJA_ASSIGN(auto nav, open_recording(o.recording, o.engine));
  DEJA_ASSIGN(auto step, go_to(*nav, o.at));
  Machine& machine = nav->machine();
  if (o.what == "disk") {
    if (o.drive >= machine.drive_count())
      return make_error("{}: has {} drives, numbered from 0; there is no drive {}", nav->dir().string(),
                        machine.drive_count(), o.drive);
    DEJA_TRY(write_disk(machine.drive(o.drive), o.file));
    say("{}: drive {} at step {}, {}\n", o.file, o.drive, format_count(step),
        bytes(machine.drive(o.drive).size()));
    return kExitOk;
  }
  std::vector<u32> running;
  if (o.what == "vmcore") {
    auto kernel = find_guest_kernel(*nav);
    if (kernel) running = running_threads(*kernel, machine);
  }
  DEJA_TRY(nav->load_all());
  auto report =
      o.what == "vmcore" ? write_vmcore(machine, running, o.file) : write_raw_memory(machine, o.file);
  if (!report) return report.error();
  say("{}: {} at step {}, {}\n", o.file, o.what, format_count(step), bytes(report->bytes));
  if (o.what == "vmcore") {
    if (report->osrelease.empty())
      note(
          "no Linux that describes itself (VMCOREINFO) was found in memory: tools will ask for more than the "
          "file");
    else
      note("Linux {}: crash VMLINUX {}, or drgn -c {}", report->osrelease, o.file, o.file);
  }
  return kExitOk;
}

}  // namespace

void add_export(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("export", "Write what a recording holds for other tools");
  verb->footer(
      "Examples:\n"
      "  deja export crash vmcore --at panic out.core     for `crash` and drgn, with the CPUs' registers\n"
      "  deja export crash memory --at 50% ram.bin        RAM by physical address\n"
      "  deja export web pcap traffic.pcapng              all network traffic, for tshark and Wireshark\n"
      "  deja export web disk --at 50% half.raw           a disk as it was then");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("WHAT", o->what, "vmcore, memory, pcap or disk")
      ->required()
      ->one_of({"vmcore", "memory", "pcap", "disk"});
  verb->add_option("FILE", o->file, "the file to write; must not exist")->required();
  verb->add_option("--at", o->at, "the moment: docs/time-travel.md has all forms")->capture_default_str();
  verb->add_option("--drive", o->drive, "disk: which one, from 0 [0]");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return export_moment(*o); }; });
}

}  // namespace deja
