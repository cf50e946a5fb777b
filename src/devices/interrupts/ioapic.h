// The I/O APIC: 24 inputs, each with a redirection entry (Intel 82093AA data sheet; the EOI register of
// version 20h is that of the ICH9 data sheet, section 13.5).
//
// Wires carry assertion, not voltage: the polarity bit of an entry is kept for the guest but changes nothing.
#pragma once

#include <array>

#include "devices/device.h"
#include "devices/interrupts/interrupt_bus.h"

namespace deja {

class IoApic final : public Device, public MmioDevice {
 public:
  static constexpr unsigned kPins = 24;
  static constexpr u64 kWindowSize = 4096;

  struct State {
    u8 id = 0;
    u8 select = 0;     // IOREGSEL
    u32 asserted = 0;  // level of each input
    std::array<u64, kPins> redirection{};
  };

  explicit IoApic(InterruptBus& bus);

  std::string_view name() const override { return "ioapic"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

  u64 mmio_read(u64 offset, unsigned size) override;
  void mmio_write(u64 offset, u64 value, unsigned size) override;

  void set_pin(unsigned pin, bool level);
  // EOI message for a vector: ends level-triggered interrupts, and sends those that are still asserted again.
  void end_of_interrupt(u8 vector);

  const State& state() const { return s_; }

 private:
  u32 read_register() const;
  void write_register(u32 value);
  void deliver(unsigned pin);
  void deliver_level(unsigned pin);

  InterruptBus& bus_;
  State s_;
};

}  // namespace deja
