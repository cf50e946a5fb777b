// The local APIC of one vCPU (SDM vol. 3A chapter 10): xAPIC registers in memory, x2APIC registers as MSRs,
// the timer in its three modes, and the acceptance of interrupts.
//
// The timer counts from virtual time on demand: an event exists only where an interrupt (or the end of a
// TSC deadline) is due, so a guest that polls or masks its timer costs nothing.
#pragma once

#include <array>
#include <string>

#include "devices/device.h"
#include "devices/interrupts/interrupt_bus.h"
#include "devices/oscillator.h"

namespace deja {

inline constexpr u64 kApicDefaultBase = 0xfee00000;
inline constexpr u64 kApicBaseBsp = 1 << 8;        // IA32_APIC_BASE, SDM vol. 3A figure 10-26
inline constexpr u64 kApicBaseExtended = 1 << 10;  // x2APIC mode
inline constexpr u64 kApicBaseEnable = 1 << 11;

// A local APIC's access to its vCPU.
struct LocalApicSignals {
  std::function<void()> nmi;
  std::function<void()> init;              // the local APIC itself has already been reset
  std::function<void(u8 vector)> startup;  // SIPI; counts only when the vCPU waits for one
  std::function<u64()> tsc_adjust;         // IA32_TSC_ADJUST: TSC = ticks of tsc_hz since power-on + this
};

struct LocalApicConfig {
  u32 id = 0;  // APIC id; 0 is the bootstrap processor
  u64 tsc_hz = 1'000'000'000;
  u64 crystal_hz = 25'000'000;  // input clock of the timer, before the divide configuration
};

class LocalApic final : public Device, public MmioDevice {
 public:
  enum Lvt : u8 { timer, thermal, performance, lint0, lint1, error, kLvtCount };

  struct State {
    u64 apic_base = 0;  // IA32_APIC_BASE as last written
    u32 tpr = 0, ldr = 0, dfr = 0, svr = 0;
    u32 esr = 0, esr_pending = 0;  // as read; collected since the last write
    u64 icr = 0;                   // in xAPIC mode the destination is in bits 63:56
    std::array<u32, 8> isr{}, tmr{}, irr{};
    std::array<u32, kLvtCount> lvt{};
    u32 divide = 0, initial_count = 0;
    // The count-down: first expiry `timer_first` counts after `timer_start`, then, when periodic, one each
    // initial_count; `timer_expiries` of them are over.
    bool timer_running = false;
    VtimeNs timer_start = 0;
    u32 timer_first = 0;
    u64 timer_expiries = 0;
    u64 tsc_deadline = 0;  // IA32_TSC_DEADLINE, 0 when disarmed
    // The ticks of tsc_hz since power-on at which it is reached, as found when it was written, and the value
    // of IA32_TSC_ADJUST then.
    u64 deadline_ticks = 0, deadline_adjust = 0;
    bool lint0 = false, lint1 = false;  // levels of the input wires
    bool ext_int = false;               // an ExtINT message waits for its INTA cycle
  };

  LocalApic(const LocalApicConfig& config, const TimeSource& time, InterruptBus& bus,
            LocalApicSignals signals);

  std::string_view name() const override { return name_; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override;
  void advance(VtimeNs now) override;

  // The 4 KiB register page of xAPIC mode.
  u64 mmio_read(u64 offset, unsigned size) override;
  void mmio_write(u64 offset, u64 value, unsigned size) override;

  // What the firmware of a PC leaves behind: software-enabled, LINT0 = ExtINT, LINT1 = NMI ("virtual wire
  // mode", MultiProcessor Specification 1.4 section 3.6.2.2). Needed when a guest is started without
  // firmware.
  void enter_virtual_wire_mode();

  // --- for the vCPU
  u32 id() const { return id_; }
  u64 apic_base() const { return s_.apic_base; }
  bool in_xapic_mode() const {
    return (s_.apic_base & (kApicBaseEnable | kApicBaseExtended)) == kApicBaseEnable;
  }
  bool in_x2apic_mode() const { return s_.apic_base & kApicBaseExtended; }
  // Does an access to `p` go to this APIC's register page?
  bool claims(Gpa p) const { return in_xapic_mode() && (p.value ^ s_.apic_base) >> kPageShift == 0; }
  // The caller has refused the transitions that raise #GP (SDM vol. 3A figure 10-27).
  void write_apic_base(u64 value);

  // Is there a maskable interrupt for the vCPU? Cheap.
  bool pending() const { return pending_; }
  // INTA cycle: the vector, or -1 when nothing is pending.
  int acknowledge();
  u64 read_cr8() const { return s_.tpr >> 4; }
  void write_cr8(u64 value);
  // 800h..83Fh and 6E0h; false means #GP(0).
  bool msr_read(u32 msr, u64* value);
  bool msr_write(u32 msr, u64 value);

  // --- for the interrupt bus
  bool accepts_fixed() const { return hardware_enabled() && (s_.svr & 0x100); }
  bool is_destination(const InterruptMessage& m) const;
  u8 arbitration_priority() const;
  bool receive(const InterruptMessage& m);
  void set_lint0(bool level);
  void set_lint1(bool level);

  const State& state() const { return s_; }

 private:
  enum class TimerMode : u8 { one_shot = 0, periodic = 1, tsc_deadline = 2 };

  bool hardware_enabled() const { return s_.apic_base & kApicBaseEnable; }
  void reset_registers();
  bool valid() const;

  u32 read_register(unsigned index);
  // False when a reserved bit is set or the register cannot be written.
  bool write_register(unsigned index, u32 value);
  void write_lvt(Lvt which, u32 value);
  void write_svr(u32 value);
  void send_icr();

  void update();  // recomputes pending_ after a change of IRR, ISR, TPR or the ExtINT inputs
  bool ext_int_pending() const;
  u8 processor_priority() const;
  void accept(u8 vector, bool level);
  void end_of_interrupt();
  void raise_lvt(Lvt which);
  void lint_changed(Lvt which, bool level);
  void report_error(u32 esr_bit);

  TimerMode timer_mode() const { return static_cast<TimerMode>((s_.lvt[timer] >> 17) & 3); }
  bool timer_masked() const { return s_.lvt[timer] & (1 << 16); }
  unsigned divisor() const;
  u64 counts_since_start(VtimeNs now) const;
  u32 current_count(VtimeNs now) const;
  void start_timer(u32 count, VtimeNs now);
  void skip_expiries(VtimeNs now);  // forgets the expiries that fell into a time when the timer was masked
  void update_timer();              // recomputes next_event_
  void set_deadline(u64 deadline, VtimeNs now);
  VtimeNs deadline_time(u64 adjust) const;

  const u32 id_;
  const std::string name_;
  const Oscillator tsc_, crystal_;
  const TimeSource& time_;
  InterruptBus& bus_;
  const LocalApicSignals signals_;
  State s_;

  // Derived from s_.
  bool pending_ = false;
  mutable VtimeNs next_event_ = kNeverNs;
  mutable u64 adjust_used_ = 0;  // the TSC_ADJUST that next_event_ was computed with
};

}  // namespace deja
