// The two ports by which software resets a PC: CF9h, the reset control register (PIIX3 2.5.4.1), and 92h,
// system control port A of the PS/2.
#pragma once

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"

namespace deja {

class ResetControl final : public Device, public BytePortDevice {
 public:
  static constexpr u16 kResetPort = 0xcf9;

  struct State {
    u8 reset_control = 0;
    u8 port_a = 0;
  };

  explicit ResetControl(std::function<void()> reset_machine);
  // Port 92h. CF9h lies in the middle of the PCI configuration ports, and the PCI host passes it on.
  void attach(IoBus& bus);

  std::string_view name() const override { return "reset_control"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  const std::function<void()> reset_machine_;
  State s_;
};

}  // namespace deja
