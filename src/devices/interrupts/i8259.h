// The two 8259A interrupt controllers of a PC, the slave on IR2 of the master (Intel 8259A data sheet), with
// the edge/level control registers of the PIIX chips.
#pragma once

#include <array>

#include "devices/byte_port_device.h"
#include "devices/interrupts/interrupt_bus.h"
#include "devices/io_bus.h"

namespace deja {

class I8259 final : public Device, public BytePortDevice {
 public:
  struct Chip {
    u8 lines = 0;  // levels of the inputs
    u8 irr = 0, imr = 0, isr = 0;
    u8 elcr = 0;         // 1 = level-triggered
    u8 vector_base = 0;  // ICW2 bits 7:3
    u8 cascade = 0;      // ICW3
    u8 lowest = 7;       // the input with the lowest priority; the one after it has the highest
    u8 init_step = 0;    // the ICW expected next: 2, 3, 4; 0 when initialised
    bool icw4_needed = false, single = false, level_mode = false;  // from ICW1
    bool auto_eoi = false, special_fully_nested = false;           // from ICW4
    bool rotate_on_auto_eoi = false, special_mask = false;
    bool read_isr = false, poll = false;  // from OCW3
  };
  struct State {
    std::array<Chip, 2> chip;  // master, slave
    bool intr = false;         // output of the master
  };

  explicit I8259(InterruptBus& bus);
  void attach(IoBus& bus);  // ports 20h, 21h, A0h, A1h, 4D0h, 4D1h

  std::string_view name() const override { return "i8259"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

  // Input 0..15; 2 is taken by the slave.
  void set_irq(unsigned irq, bool level);
  // The two INTA cycles; the spurious vector (input 7) when no request is left.
  u8 acknowledge();

  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  static unsigned priority(const Chip& c, u8 requests);
  bool is_level(const Chip& c, unsigned input) const { return c.level_mode || (c.elcr >> input & 1); }
  int request(unsigned index) const;
  void set_input(unsigned index, unsigned input, bool level);
  void take(Chip& c, unsigned input);
  u8 acknowledge_chip(unsigned index);
  void write_command(unsigned index, u8 value);
  void write_data(unsigned index, u8 value);
  void write_ocw2(Chip& c, u8 value);
  u8 poll(unsigned index);
  void update();

  InterruptBus& bus_;
  State s_;
};

}  // namespace deja
