// ACPI fixed hardware: PM1a event and control registers, the power management timer and one GPE block
// (ACPI 6.5 chapter 4.8). There is no SMI_CMD port: the machine is always in ACPI mode (SCI_EN reads as one).
#pragma once

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"
#include "devices/oscillator.h"

namespace deja {

class AcpiPm final : public Device, public BytePortDevice {
 public:
  static constexpr u64 kTimerHz = 3'579'545;
  static constexpr unsigned kTimerBits = 24;  // TMR_VAL_EXT in the FADT is 0
  // Register blocks, from the base port.
  static constexpr u16 kPm1aStatus = 0x00, kPm1aEnable = 0x02, kPm1aControl = 0x04, kPmTimer = 0x08;
  static constexpr u16 kGpe0Status = 0x20, kGpe0Enable = 0x22;
  static constexpr unsigned kPorts = 0x40;

  struct State {
    u16 pm1_status = 0, pm1_enable = 0;
    u16 pm1_control = 0;         // without SCI_EN, SLP_EN and GBL_RLS
    u64 timer_half_periods = 0;  // toggles of the timer's top bit accounted in TMR_STS
    u16 gpe0_status = 0, gpe0_enable = 0;
    bool sci = false;
  };

  // `sleep_type_s5`: the SLP_TYP value that \_S5 in the DSDT gives; writing it with SLP_EN calls `power_off`.
  AcpiPm(u16 base, u8 sleep_type_s5, const TimeSource& time, IrqLine sci, std::function<void()> power_off);
  void attach(IoBus& bus);  // base .. base + kPorts - 1

  std::string_view name() const override { return "acpi_pm"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override { return next_event_; }
  void advance(VtimeNs now) override;

  // The alarm of the real-time clock, which is a fixed event.
  void rtc_alarm();
  // A person pressed the button.
  void power_button();
  // An event of general-purpose event pin 0..15.
  void raise_gpe(unsigned n);

  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  u64 half_periods(VtimeNs t) const { return clock_.ticks(t) >> (kTimerBits - 1); }
  void settle_timer(VtimeNs now);
  void write_control(u16 value, bool high_byte);
  void update();  // drives the SCI and finds the next event

  const u16 base_;
  const u8 sleep_type_s5_;
  const TimeSource& time_;
  const IrqLine sci_;
  const std::function<void()> power_off_;
  const Oscillator clock_{kTimerHz};
  State s_;
  VtimeNs next_event_ = kNeverNs;  // derived from s_
};

}  // namespace deja
