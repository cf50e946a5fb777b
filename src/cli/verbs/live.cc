#include <fmt/format.h>

#include "cli/messages.h"
#include "cli/options/machine_options.h"
#include "cli/options/moment.h"
#include "cli/session_report.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording.h"
#include "replay/position.h"
#include "timeline/branch.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, at = "end", name;
  std::vector<std::string> serial;
  std::string nic = "none";
};

// What the card that the machine has is connected to now.
Result<NicConfig> connection(const std::string& text, const MachineSpec& machine) {
  DEJA_ASSIGN(NicConfig nic, parse_nic(text));
  if (nic.kind == NicConfig::Kind::none) return nic;
  if (machine.nic_mac.empty())
    return make_error("--nic {}: the machine was recorded without a network card", text);
  if (text.find("mac=") != std::string::npos && nic.mac != machine.nic_mac)
    return make_error("--nic {}: the card's address is {} and cannot be changed", text, machine.nic_mac);
  return nic;
}

Result<int> live(const Options& o) {
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  DEJA_ASSIGN(auto parent, Recording::open(dir));
  SessionRequest request;
  DEJA_ASSIGN(auto serial, branch_serial(parent.manifest.machine, o.serial));
  for (const std::string& line : serial.notes) note("{}", line);
  request.serial = std::move(serial.lines);
  request.recording.name = o.name;
  request.record_at_once = true;
  // Going to the moment runs the guest: what the session makes on the host comes first.
  RealHostClock clock;
  const MachineSpec& machine = parent.manifest.machine;
  DEJA_ASSIGN(auto nic, connection(o.nic, machine));
  DEJA_ASSIGN(auto prepared,
              PreparedSession::make(o.name, request.serial, std::move(nic),
                                    machine.options.contains(std::string(kScreenOption)), clock));
  request.prepared.emplace(std::move(prepared));
  DEJA_ASSIGN(auto nav, open_recording(o.recording, o.engine));
  DEJA_ASSIGN(auto step, go_to(*nav, o.at));
  DEJA_ASSIGN(auto branch, branch_here(*nav));
  request.branch = std::move(branch);
  note("going on from step {} of {}", format_count(step), nav->dir().string());
  DEJA_ASSIGN(auto report, run_session(std::move(request), clock));
  return report_session(report, o.engine.stats);
}

}  // namespace

void add_live(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb =
      app.add_subcommand("live", "Go on from a moment of a recording as a running machine, recorded anew");
  verb->footer(
      "The recording stays as it is. What runs on is a recording of its own that begins at power-on as "
      "well.\n"
      "Examples:\n"
      "  deja live crash --at panic#1           from right after the panic\n"
      "  deja live crash --at -2s -o fixed      from two seconds before the end\n"
      "  deja live day --nic user               where yesterday's work was left, with a network again");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--at", o->at, "the moment: docs/time-travel.md has all forms")->capture_default_str();
  verb->add_option("-o,--output", o->name, "name of the new recording, or a path with a slash [the date]");
  verb->add_option("--serial", o->serial,
                   "COM1, as for `deja record`; a second one is the virtio console [the terminal or nothing, "
                   "as it was recorded; files and sockets that the recording names are not opened]");
  verb->add_option("--nic", o->nic,
                   show("what the machine's network card is connected to from there on: none, or {}; "
                        "mac= cannot be another than the machine has",
                        kNicForm))
      ->capture_default_str();
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return live(*o); }; });
}

}  // namespace deja
