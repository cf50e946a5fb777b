// The keyboard controller of a PC with a keyboard and no mouse: every command that a driver probes with is
// answered at once, so that finding out takes no time-outs (IBM PS/2 Hardware Technical Reference; the
// command set is that of the 8042 as Linux's i8042 driver uses it).
#pragma once

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"
#include "devices/ps2_keyboard.h"

namespace deja {

class I8042 final : public Device, public BytePortDevice {
 public:
  struct State {
    u8 status = 0;        // without the output buffer bits
    u8 command_byte = 0;  // as read by command 20h
    u8 output_port = 0;   // as read by command D0h
    u8 pending = 0;       // the command whose data byte is expected at port 60h; 0: none
    u8 data = 0;          // output buffer
    bool full = false, from_aux = false;
    bool irq1 = false, irq12 = false;
    bool released = false;  // translation has seen the prefix of a released key
  };

  // `reset_machine` is called on command FEh and when output port bit 0 is cleared.
  I8042(IrqLine irq1, IrqLine irq12, std::function<void()> reset_machine);
  void attach(IoBus& bus);  // ports 60h, 64h

  std::string_view name() const override { return "i8042"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

  // Keys on the keyboard, as codes of set 2.
  void type(std::string_view codes) {
    keyboard_.type(codes);
    fetch_key();
  }

  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  void write_command(u8 command);
  void write_data(u8 value);
  void write_output_port(u8 value);
  void answer(u8 value, bool from_aux = false);
  void fetch_key();
  void update_irqs();

  const IrqLine irq1_, irq12_;
  const std::function<void()> reset_machine_;
  State s_;
  Ps2Keyboard keyboard_;
};

}  // namespace deja
