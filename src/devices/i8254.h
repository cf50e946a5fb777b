// The 8254 programmable interval timer (Intel 8254 data sheet) and port 61h of a PC, which gates channel 2
// and shows its output (NMI status and control register, PIIX3 2.5.3).
//
// Counters are computed from virtual time when somebody looks; only the edges of channel 0, which is IRQ 0,
// are events.
#pragma once

#include <array>

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"
#include "devices/oscillator.h"

namespace deja {

class I8254 final : public Device, public BytePortDevice {
 public:
  static constexpr u64 kHz = 1'193'182;  // 14.31818 MHz / 12
  static constexpr i64 kNoTick = INT64_MAX;

  // Times are in ticks of the 1.193182 MHz clock since power-on.
  struct Channel {
    u8 mode = 0;    // 0..5
    u8 access = 3;  // 1: low byte, 2: high byte, 3: low then high
    bool bcd = false;
    bool gate = true;
    bool write_high = false, read_high = false;  // access 3: the high byte is next
    u8 write_low = 0;
    bool count_latched = false, status_latched = false;
    u16 latched_count = 0;
    u8 latched_status = 0;
    u32 count = 0;  // count register: 1..65536 ticks (10000 in BCD); 0: not written since the control word
    // Counting element.
    bool running = false;
    u32 period = 0;     // the count it was loaded with
    i64 start = 0;      // tick at which it was loaded
    bool held = false;  // stopped by the gate, having counted `elapsed` ticks
    i64 elapsed = 0;
    i64 load_tick = kNoTick;  // when the count register goes, or went, into the counting element
    // Modes 2 and 3: a new count waits for the end of the (half) cycle, which is load_tick.
    bool reload_pending = false;
    i64 reload_start = 0;
  };
  struct State {
    std::array<Channel, 3> channel;
    u8 port61 = 0;            // bits 3:0 as written
    i64 next_edge = kNoTick;  // tick of the next change of channel 0's output
    bool irq = false;
  };

  I8254(const TimeSource& time, IrqLine irq0);
  void attach(IoBus& bus);  // ports 40h..43h, 61h

  std::string_view name() const override { return "i8254"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override { return next_event_; }
  void advance(VtimeNs now) override;

  // Output of a channel now.
  bool output(unsigned channel) const;
  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  static bool valid(const Channel& c);
  static u32 modulus(const Channel& c) { return c.bcd ? 10'000 : 65'536; }
  static i64 elapsed(const Channel& c, i64 tick);
  static u32 value(const Channel& c, i64 tick);
  static bool output(const Channel& c, i64 tick);
  static i64 next_edge(const Channel& c, i64 tick);
  static void settle(Channel& c, i64 tick);
  static void load(Channel& c, i64 tick);
  static void set_count(Channel& c, u16 written, i64 tick);
  static void set_gate(Channel& c, bool gate, i64 tick);
  static void latch_count(Channel& c, i64 tick);
  static void latch_status(Channel& c, i64 tick);
  static u8 read_channel(Channel& c, i64 tick);
  static void write_channel(Channel& c, u8 value, i64 tick);
  void write_control(u8 value, i64 tick);

  i64 tick_at(VtimeNs t) const { return static_cast<i64>(clock_.ticks(t)); }
  void update_channel0(i64 tick);  // drives IRQ 0 and finds the next edge

  const TimeSource& time_;
  const IrqLine irq0_;
  const Oscillator clock_{kHz};
  State s_;
  VtimeNs next_event_ = kNeverNs;  // derived from s_.next_edge
};

}  // namespace deja
