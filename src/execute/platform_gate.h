// The rest of the machine as an engine's vCPUs see it.
#pragma once

#include "guest/platform.h"

namespace deja {

// Forwards to the machine and notes that devices were touched: what the engine knows of deadlines and
// interrupt lines may be out of date, so the run ends after the instruction in progress.
class PlatformGate final : public Platform {
 public:
  PlatformGate(Platform& target, bool& touched) : target_(target), touched_(touched) {}
  u32 port_read(u16 port, unsigned size) override { return touch(), target_.port_read(port, size); }
  void port_write(u16 port, u32 value, unsigned size) override {
    touch(), target_.port_write(port, value, size);
  }
  u64 mmio_read(unsigned v, Gpa a, unsigned size) override { return touch(), target_.mmio_read(v, a, size); }
  void mmio_write(unsigned v, Gpa a, u64 x, unsigned size) override {
    touch(), target_.mmio_write(v, a, x, size);
  }
  u64 cr8_read(unsigned v) override { return target_.cr8_read(v); }
  void cr8_write(unsigned v, u64 x) override { touch(), target_.cr8_write(v, x); }
  bool apic_msr_read(unsigned v, u32 msr, u64* x) override {
    return touch(), target_.apic_msr_read(v, msr, x);
  }
  bool apic_msr_write(unsigned v, u32 msr, u64 x) override {
    return touch(), target_.apic_msr_write(v, msr, x);
  }
  void apic_base_written(unsigned v, u64 x) override { touch(), target_.apic_base_written(v, x); }
  bool interrupt_pending(unsigned v) override { return target_.interrupt_pending(v); }
  int acknowledge_interrupt(unsigned v) override { return target_.acknowledge_interrupt(v); }
  u64 tsc() override { return target_.tsc(); }
  GuestCallAnswer guest_call(std::string_view line) override { return touch(), target_.guest_call(line); }
  std::optional<Step> go_on(CpuState& cpu, bool spins) override { return target_.go_on(cpu, spins); }

 private:
  void touch() { touched_ = true; }
  Platform& target_;
  bool& touched_;
};

}  // namespace deja
