#include "replay/apply.h"

#include "base/log.h"

namespace deja {
namespace {

constexpr u8 kConsolePort = 1;

struct Apply {
  Machine& machine;

  void operator()(const input::SerialBytes& x) const {
    for (const char c : x.bytes) {
      if (x.port == kConsolePort)
        machine.console_receive(static_cast<u8>(c));
      else if (has_port(x.port))
        machine.serial_receive(static_cast<u8>(c));
    }
  }
  void operator()(const input::NetFrame& x) const { machine.frame_receive(x.bytes); }
  void operator()(const input::SerialBreak& x) const {
    if (has_port(x.port)) machine.serial_break();
  }
  void operator()(const input::Keys& x) const { machine.keys(x.codes); }
  void operator()(const input::PowerButton&) const { machine.power_button(); }
  void operator()(const input::NmiButton&) const { machine.nmi_button(); }
  void operator()(const input::ResetButton&) const { machine.reset_button(); }
  // A sleep is applied by whoever drives the machine: it takes a step.
  template <class Other>
  void operator()(const Other&) const {}

  static bool has_port(u8 port) {
    if (port == 0) return true;
    log_info("inputs", "input for serial port {}, which this machine does not have, is dropped", port);
    return false;
  }
};

}  // namespace

void apply_event(Machine& machine, const EventBody& body) {
  if (!reaches_machine(body)) return;
  bring_to_rest(machine);
  std::visit(Apply{machine}, body);
}

void bring_to_rest(Machine& machine) { machine.run(machine.clock().steps); }

}  // namespace deja
