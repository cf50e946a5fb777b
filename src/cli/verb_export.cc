#include "cli/engine_options.h"
#include "cli/messages.h"
#include "cli/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "timeline/position_finder.h"
#include "timeline/vmcore.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, what, at = "end", file;
};

int export_memory(const Options& o) {
  auto engine = o.engine.apply();
  if (!engine) return fail(engine.error());
  auto dir = resolve_recording(o.recording);
  if (!dir) return fail(dir.error());
  auto nav = Navigator::open(*dir, *engine);
  if (!nav) return fail(nav.error());
  auto step = find_position(**nav, o.at);
  if (!step) return fail(step.error());
  if (Status status = (*nav)->seek(*step); !status) return fail(status.error());
  Machine& machine = (*nav)->machine();
  auto report = o.what == "vmcore" ? write_vmcore(machine, o.file) : write_raw_memory(machine, o.file);
  if (!report) return fail(report.error());
  fmt::print("{}: {} at step {}, {}\n", o.file, o.what, format_count(*step), bytes(report->bytes));
  if (o.what == "vmcore") {
    note(report->osrelease.empty()
             ? "no Linux that describes itself (VMCOREINFO) was found in memory: tools will ask for more "
               "than the file"
             : fmt::format("Linux {}: crash VMLINUX {}, or drgn -c {}", report->osrelease, o.file, o.file));
  }
  return kExitOk;
}

}  // namespace

void add_export(CLI::App& app, Action* action) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("export", "Write the guest's memory at some moment for other tools");
  verb->footer(
      "Examples:\n"
      "  deja export crash vmcore --at panic out.core     for `crash` and drgn, with the CPUs' registers\n"
      "  deja export crash memory --at 50% ram.bin        RAM by physical address");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("WHAT", o->what, "vmcore or memory")
      ->required()
      ->check(CLI::IsMember({"vmcore", "memory"}));
  verb->add_option("FILE", o->file, "the file to write; must not exist")->required();
  verb->add_option("--at", o->at, "the moment: docs/time-travel.md has all forms")->capture_default_str();
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o] { return export_memory(*o); }; });
}

}  // namespace deja
