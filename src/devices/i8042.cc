#include "devices/i8042.h"

#include <utility>

#include "base/log.h"

namespace deja {
namespace {

constexpr u8 kOutputFull = 0x01, kSystem = 0x04, kCommand = 0x08, kUnlocked = 0x10, kAuxFull = 0x20,
             kTimeout = 0x40;  // status
constexpr u8 kIrq1 = 0x01, kIrq12 = 0x02, kSystemFlag = 0x04, kNoClock1 = 0x10, kNoClock2 = 0x20,
             kTranslate = 0x40;              // command byte
constexpr u8 kNotReset = 0x01, kA20 = 0x02;  // output port
constexpr u8 kReleasePrefix = 0xf0;          // of a key's code, in set 2
constexpr u8 kResend = 0xfe;                 // what the controller reports when a device does not answer

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.status), a.field(s.command_byte), a.field(s.output_port), a.field(s.pending), a.field(s.data);
  a.field(s.full), a.field(s.from_aux), a.field(s.irq1), a.field(s.irq12), a.field(s.released);
}

}  // namespace

I8042::I8042(IrqLine irq1, IrqLine irq12, std::function<void()> reset_machine)
    : irq1_(std::move(irq1)), irq12_(std::move(irq12)), reset_machine_(std::move(reset_machine)) {
  reset();
}

void I8042::attach(IoBus& bus) {
  bus.attach_ports(0x60, 1, this);
  bus.attach_ports(0x64, 1, this);
}

void I8042::reset() {
  const bool irq1 = s_.irq1, irq12 = s_.irq12;
  s_ = State{};
  s_.irq1 = irq1;
  s_.irq12 = irq12;
  s_.status = kUnlocked;
  s_.command_byte = kNoClock1 | kNoClock2;
  s_.output_port = kNotReset | kA20;
  keyboard_.reset();
  update_irqs();
}

void I8042::save(StateWriter& w) const {
  serialize(w, s_);
  keyboard_.save(w);
}

bool I8042::restore(StateReader& r) {
  serialize(r, s_);
  const bool keyboard = keyboard_.restore(r);
  if (keyboard && r.ok() && !(s_.status & (kOutputFull | kAuxFull))) return true;
  reset();
  return false;
}

void I8042::update_irqs() {
  const bool irq1 = s_.full && !s_.from_aux && (s_.command_byte & kIrq1);
  const bool irq12 = s_.full && s_.from_aux && (s_.command_byte & kIrq12);
  if (irq1 != s_.irq1) {
    s_.irq1 = irq1;
    irq1_(irq1);
  }
  if (irq12 != s_.irq12) {
    s_.irq12 = irq12;
    irq12_(irq12);
  }
}

// Puts a byte into the output buffer; one that was not read is lost.
void I8042::answer(u8 value, bool from_aux) {
  s_.data = value;
  s_.full = true;
  s_.from_aux = from_aux;
  s_.status &= ~kTimeout;
  update_irqs();
}

// Takes the keyboard's next byte when there is room for it and the keyboard is enabled.
void I8042::fetch_key() {
  while (!s_.full && !(s_.command_byte & kNoClock1)) {
    std::optional<u8> byte = keyboard_.next();
    if (!byte) return;
    if (s_.command_byte & kTranslate) {
      if (*byte == kReleasePrefix) {
        s_.released = true;
        continue;
      }
      byte = translate_scan_code(*byte, std::exchange(s_.released, false));
    }
    answer(*byte);
  }
}

void I8042::write_output_port(u8 value) {
  s_.output_port = value | kNotReset;
  if (!(value & kNotReset)) reset_machine_();
}

void I8042::write_command(u8 command) {
  s_.status |= kCommand;
  s_.pending = 0;
  switch (command) {
    case 0x20:
      return answer(s_.command_byte);
    case 0x60:  // write command byte
    case 0xd1:  // write output port
    case 0xd2:  // write keyboard output buffer
    case 0xd3:  // write auxiliary output buffer
    case 0xd4:  // send to the auxiliary device
      s_.pending = command;
      return;
    case 0xa7:
      s_.command_byte |= kNoClock2;
      return;
    case 0xa8:
      s_.command_byte &= ~kNoClock2;
      return;
    case 0xa9:
      return answer(0x00);  // auxiliary interface test: no error
    case 0xaa:
      s_.status |= kSystem;
      return answer(0x55);  // self-test passed
    case 0xab:
      return answer(0x00);  // keyboard interface test: no error
    case 0xad:
      s_.command_byte |= kNoClock1;
      return;
    case 0xae:
      s_.command_byte &= ~kNoClock1;
      return;
    case 0xc0:
      return answer(0x80);  // input port: keyboard not locked
    case 0xd0:
      return answer(s_.output_port);
    default:
      break;
  }
  if (command >= 0xf0) {  // pulse the output port bits that are 0 in bits 3:0
    if (!(command & 1)) reset_machine_();
    return;
  }
  log_debug("devices", "i8042: command {:#x} ignored", command);
}

void I8042::write_data(u8 value) {
  s_.status &= ~kCommand;
  const u8 command = s_.pending;
  s_.pending = 0;
  switch (command) {
    case 0x60:
      s_.command_byte = value;
      s_.status = value & kSystemFlag ? s_.status | kSystem : s_.status & ~kSystem;
      update_irqs();
      return;
    case 0xd1:
      return write_output_port(value);
    case 0xd2:
      return answer(value);
    case 0xd3:
      return answer(value, true);
    case 0xd4:  // there is no mouse
      answer(kResend, true);
      s_.status |= kTimeout;
      return;
    default:
      s_.command_byte &= ~kNoClock1;
      keyboard_.receive(value);
      return;
  }
}

u8 I8042::read_byte(u16 port) {
  if (port & 4) return s_.status | (s_.full ? kOutputFull : 0) | (s_.full && s_.from_aux ? kAuxFull : 0);
  s_.full = false;
  s_.status &= ~kTimeout;
  update_irqs();
  const u8 data = s_.data;
  fetch_key();
  return data;
}

void I8042::write_byte(u16 port, u8 value) {
  if (port & 4) {
    write_command(value);
  } else {
    write_data(value);
  }
  fetch_key();
}

}  // namespace deja
