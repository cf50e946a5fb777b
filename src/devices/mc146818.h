// The real-time clock and its battery-backed RAM (Motorola MC146818A data sheet; PC usage as in the PIIX4 and
// ICH9 data sheets).
//
// The calendar is a function of virtual time: registers are computed when read, and an event exists only for
// an interrupt that is enabled and whose flag is not set yet, so an idle guest is not woken every second.
#pragma once

#include <array>
#include <functional>

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"

namespace deja {

class Mc146818 final : public Device, public BytePortDevice {
 public:
  static constexpr unsigned kSize = 128;

  struct State {
    u8 index = 0;
    // As written; the time registers count only while the clock stands (SET, or divider held in reset),
    // register C is what has been accounted up to flags_time.
    std::array<u8, kSize> ram{};
    i64 divider_start = 0;  // virtual time, ns: seconds begin at whole seconds after this
    i64 epoch_seconds =
        0;  // calendar time at divider_start, in seconds since 1970-01-01 (as the guest reads it)
    u8 weekday_shift = 0;  // 0..6: what the guest's day of the week is ahead of the calendar's
    VtimeNs flags_time = 0;
    bool irq = false;
    bool alarm = false;  // the alarm's flag is set and enabled
  };

  // `alarm` is called whenever the alarm raises IRQ 8, or would if nothing else did already.
  Mc146818(const TimeSource& time, IrqLine irq8, std::function<void()> alarm = {});
  void attach(IoBus& bus);  // ports 70h, 71h

  // Sets the calendar to `unix_seconds` at this moment. A recorded input.
  void set_time_base(i64 unix_seconds);
  // Stores the size of RAM as firmware does: bytes below 4 GiB, bytes from 4 GiB on.
  void set_memory_size(u64 low, u64 high);
  // Any other byte of the RAM, 0Eh..7Fh.
  void set_byte(u8 index, u8 value);

  std::string_view name() const override { return "mc146818"; }
  // RESET# disables interrupts; time and RAM are kept by the battery.
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override { return next_event_; }
  void advance(VtimeNs now) override;

  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  u8 read_register(u8 index);
  void write_register(u8 index, u8 value);

  bool divider_reset() const;
  bool clock_runs() const;
  i64 seconds_at(VtimeNs t) const;  // whole seconds of the divider chain since divider_start
  u8 encode(unsigned value) const;
  unsigned decode(u8 value) const;
  u8 encode_hour(unsigned hour) const;
  unsigned decode_hour(u8 value) const;
  void store_time(VtimeNs now);  // computes the time registers
  void load_time(VtimeNs now);   // starts the calendar from the time registers

  unsigned periodic_ticks() const;  // ticks of the 32768 Hz clock; 0: off
  bool alarm_matches(u8 alarm, u8 encoded) const;
  i64 next_alarm(i64 after) const;
  void settle_flags(VtimeNs now);
  void update_irq();
  void update_next_event();

  const TimeSource& time_;
  const IrqLine irq8_;
  const std::function<void()> alarm_;
  State s_;
  VtimeNs next_event_ = kNeverNs;  // derived from s_
};

}  // namespace deja
