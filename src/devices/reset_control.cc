#include "devices/reset_control.h"

namespace deja {
namespace {

constexpr u8 kSystemReset = 1 << 1, kResetCpu = 1 << 2, kFullReset = 1 << 3;  // CF9h
constexpr u8 kFastReset = 1 << 0, kA20 = 1 << 1;                              // 92h

}  // namespace

ResetControl::ResetControl(std::function<void()> reset_machine) : reset_machine_(std::move(reset_machine)) {
  reset();
}

void ResetControl::attach(IoBus& bus) { bus.attach_ports(0x92, 1, this); }

void ResetControl::reset() {
  s_ = State{};
  s_.port_a = kA20;  // A20 is open, as firmware leaves it; its gate does not exist here
}

void ResetControl::save(StateWriter& w) const { w.field(s_.reset_control), w.field(s_.port_a); }

bool ResetControl::restore(StateReader& r) {
  r.field(s_.reset_control), r.field(s_.port_a);
  if (r.ok()) return true;
  reset();
  return false;
}

u8 ResetControl::read_byte(u16 port) { return port == kResetPort ? s_.reset_control : s_.port_a; }

void ResetControl::write_byte(u16 port, u8 value) {
  if (port == kResetPort) {
    const bool rising = (value & kResetCpu) && !(s_.reset_control & kResetCpu);
    s_.reset_control = value & (kSystemReset | kResetCpu | kFullReset);
    if (rising) reset_machine_();
  } else {
    const bool rising = (value & kFastReset) && !(s_.port_a & kFastReset);
    s_.port_a = value;
    if (rising) reset_machine_();
  }
}

}  // namespace deja
