#include "query/who_wrote.h"
#include "cli/json_text.h"
#include "cli/messages.h"
#include "cli/options/moment.h"
#include "cli/verbs/verbs.h"
#include "linux/guest_symbols.h"
#include "query/address_space.h"
#include "query/write_symbols.h"
#include "replay/position.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, where, at = "end", as;
  std::vector<std::string> symbols;
  bool all = false, json = false;
};

std::string hex(const std::vector<u8>& bytes) {
  std::string s;
  for (const u8 b : bytes) s += show("{:02x}", b);
  return s;
}

// Many readers of JSON take numbers for floating point, which has no room for an address.
std::string address(u64 value) { return show("{:#x}", value); }

nlohmann::ordered_json to_json(const Write& w) {
  nlohmann::ordered_json j;
  j["before"] = w.before;
  j["after"] = w.after;
  j["vcpu"] = w.vcpu ? nlohmann::ordered_json(*w.vcpu) : nlohmann::ordered_json(nullptr);
  j["cause"] = cause_text(w.cause);
  j["offset"] = w.offset;
  j["physical"] = address(w.at.value);
  j["old"] = hex(w.old_bytes);
  j["new"] = hex(w.new_bytes);
  if (!w.vcpu) return j;
  j["rip"] = address(w.rip);
  j["cr3"] = address(w.cr3);
  j["cpl"] = w.cpl;
  j["instruction"] = w.instruction;
  j["symbol"] = w.symbol;
  return j;
}

Result<int> who_wrote_verb(const Options& o) {
  DEJA_ASSIGN(auto range, parse_memory_range(o.where));
  allow_symbols(o.symbols);
  DEJA_ASSIGN(auto engine, o.engine.apply());
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  SearchWorkers::prepare();
  DEJA_ASSIGN(auto nav, open_recording(dir, engine));
  DEJA_ASSIGN(auto symbols, GuestSymbols::make(*nav, o.symbols));
  DEJA_ASSIGN(auto at, go_to(*nav, o.at));
  DEJA_ASSIGN(auto memory, view_as(*nav, o.as, range.address));
  DEJA_ASSIGN(auto pieces, locate(memory, range.address, range.size));
  SearchWorkers workers(*nav, engine);
  WhoWrote request;
  request.pieces = pieces;
  request.at = at;
  request.all = o.all;
  request.workers = &workers;
  DEJA_ASSIGN(auto writes, who_wrote(*nav, request));
  DEJA_TRY(name_writes(*nav, symbols, &writes));
  if (o.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Write& w : writes) list.push_back(to_json(w));
    say("{}\n", json_text(list));
    return kExitOk;
  }
  for (const Write& w : writes) say("{}\n", describe(w));
  if (writes.empty())
    say("nobody between {} and step {}\n",
        nav->first() ? show("step {}", format_count(nav->first())) : "power-on", format_count(at));
  return kExitOk;
}

}  // namespace

void add_who_wrote(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("who-wrote", "Find who wrote these bytes of memory last");
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
  verb->add_option("--symbols", o->symbols, "files with symbols, or directories of such")->type_name("PATH");
  verb->add_flag("--all", o->all, "every write up to then, the oldest first");
  verb->add_flag("--json", o->json, "for programs");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return who_wrote_verb(*o); }; });
}

}  // namespace deja
