#include <charconv>

#include "cli/json_text.h"
#include "cli/messages.h"
#include "cli/moment.h"
#include "cli/verbs.h"
#include "gdb/symbol_setup.h"
#include "replay/position.h"
#include "timeline/who_wrote.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, where, at = "end", as;
  std::vector<std::string> symbols;
  bool all = false, json = false;
};

constexpr std::string_view kCr3 = "cr3:";

// Whose addresses: where the bytes of `range` stand at the present position.
Result<std::vector<MemoryPiece>> locate(Navigator& nav, const std::string& as, const MemoryRange& range) {
  Machine& machine = nav.machine();
  if (as == "phys") return locate_physical(machine, range.address, range.size);
  const unsigned vcpu = machine.next_vcpu().value_or(0);
  if (as.empty()) return locate_linear(machine, vcpu, {}, range.address, range.size);
  if (as == "kernel") {
    if (!(range.address >> 47))
      return make_error("--as kernel: {:#x} is in the half of the address space that processes have",
                        range.address);
    return locate_linear(machine, vcpu, {}, range.address, range.size);
  }
  if (as.starts_with(kCr3)) {
    std::string_view digits = std::string_view(as).substr(kCr3.size());
    if (digits.starts_with("0x")) digits.remove_prefix(2);
    u64 cr3 = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), cr3, 16);
    if (error == std::errc() && end == digits.data() + digits.size())
      return locate_linear(machine, vcpu, cr3, range.address, range.size);
  }
  u32 pid = 0;
  const auto [end, error] = std::from_chars(as.data(), as.data() + as.size(), pid);
  if (error != std::errc() || end != as.data() + as.size())
    return make_error(
        "--as {}: there are PID, kernel, phys, and cr3:HEX for the address space with that page table", as);
  DEJA_ASSIGN(const TaskList tasks, make_task_list(nav));
  DEJA_ASSIGN(const u64 table, tasks.address_space_of(machine, pid));
  return locate_linear(machine, vcpu, table, range.address, range.size);
}

std::string hex(const std::vector<u8>& bytes) {
  std::string s;
  for (const u8 b : bytes) s += show("{:02x}", b);
  return s;
}

nlohmann::ordered_json to_json(const Write& w) {
  nlohmann::ordered_json j;
  j["before"] = w.before;
  j["after"] = w.after;
  j["vcpu"] = w.vcpu ? nlohmann::ordered_json(*w.vcpu) : nlohmann::ordered_json(nullptr);
  j["cause"] = cause_text(w.cause);
  j["offset"] = w.offset;
  j["physical"] = w.at.value;
  j["old"] = hex(w.old_bytes);
  j["new"] = hex(w.new_bytes);
  if (!w.vcpu) return j;
  j["rip"] = w.rip;
  j["cr3"] = w.cr3;
  j["cpl"] = w.cpl;
  j["instruction"] = w.instruction;
  j["symbol"] = w.symbol;
  return j;
}

int who_wrote_verb(const Options& o) {
  auto range = parse_memory_range(o.where);
  if (!range) return fail(range.error());
  allow_symbols(o.symbols);
  auto engine = o.engine.apply();
  if (!engine) return fail(engine.error());
  auto dir = resolve_recording(o.recording);
  if (!dir) return fail(dir.error());
  SearchWorkers::prepare();
  auto nav = open_recording(*dir, *engine);
  if (!nav) return fail(nav.error());
  auto symbols = SymbolSetup::make(**nav, o.symbols);
  if (!symbols) return fail(symbols.error());
  auto at = go_to(**nav, o.at);
  if (!at) return fail(at.error());
  auto pieces = locate(**nav, o.as, *range);
  if (!pieces) return fail(pieces.error());
  SearchWorkers workers(**nav, *engine);
  WhoWrote request;
  request.pieces = *pieces;
  request.at = *at;
  request.all = o.all;
  request.workers = &workers;
  auto writes = who_wrote(**nav, request);
  if (!writes) return fail(writes.error());
  const bool kernel_moved = symbols->kernel_moved((*nav)->machine());
  for (Write& w : *writes) {
    if (!w.vcpu) continue;
    // Which program it is shows in the address space that wrote, and so does where the kernel ran then.
    if (w.cpl == 3 ? !o.symbols.empty() : kernel_moved)
      if (Status status = (*nav)->seek(w.before); !status) return fail(status.error());
    w.symbol = symbols->name_of((*nav)->machine(), *w.vcpu, w.rip);
  }
  if (o.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Write& w : *writes) list.push_back(to_json(w));
    say("{}\n", json_text(list));
    return kExitOk;
  }
  for (const Write& w : *writes) say("{}\n", describe(w));
  if (writes->empty())
    say("nobody between {} and step {}\n",
        (*nav)->first() ? show("step {}", format_count((*nav)->first())) : "power-on", format_count(*at));
  return kExitOk;
}

}  // namespace

void add_who_wrote(CLI::App& app, Action* action) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("who-wrote", "Find who wrote these bytes of memory last");
  verb->footer(
      "Examples:\n"
      "  deja who-wrote crash ffff888003a51c40              the last write of these 8 bytes before the end\n"
      "  deja who-wrote crash ffffffff82a11004/4 --at 50%\n"
      "  deja who-wrote crash 55d0c0de1000 --as 214         of the process that has this PID then\n"
      "  deja who-wrote crash 3a51c40/64 --as phys --all    every write there was\n"
      "A write counts whichever way it came: through another mapping, by another process, by a device, or "
      "by\n"
      "the processor itself (accessed bits, stack frames of interrupts). The step printed is the last one "
      "at\n"
      "which the write had not happened: `deja debug --at STEP` stands right before the instruction.");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("ADDRESS[/LENGTH]", o->where, "in hexadecimal; 8 bytes when no length is given")
      ->required();
  verb->add_option("--at", o->at, "before this moment: docs/time-travel.md has all forms")
      ->capture_default_str();
  verb->add_option(
      "--as", o->as,
      "whose address it is: the PID of a process, kernel, phys, or cr3:HEX; default: of what runs at "
      "that moment");
  verb->add_option("--symbols", o->symbols, "files with symbols, or directories of such")
      ->type_name("PATH")
      ->allow_extra_args(false);
  verb->add_flag("--all", o->all, "every write up to then, the oldest first");
  verb->add_flag("--json", o->json, "for programs");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o] { return who_wrote_verb(*o); }; });
}

}  // namespace deja
