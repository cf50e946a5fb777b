// What a vCPU sees of the rest of the machine. execute/ calls it, machine/ implements it by routing to
// devices/. Clock::steps is exact (the step of the accessing instruction) whenever one of these is called.
#pragma once

#include <optional>
#include <string_view>

#include "base/types.h"

namespace deja {

struct CpuState;

// What the guest control device says to a line. Refused: a mark, and there were too many lately.
enum class GuestCallAnswer : u8 { absent, taken, refused };

class Platform {
 public:
  virtual ~Platform() = default;

  // IN/OUT; size is 1, 2 or 4 bytes. Unclaimed ports read as all ones.
  virtual u32 port_read(u16 port, unsigned size) = 0;
  virtual void port_write(u16 port, u32 value, unsigned size) = 0;
  // Access to a guest physical address that is not RAM; size 1..8, not crossing a page.
  // The local APIC page is routed to the accessing vCPU's APIC.
  virtual u64 mmio_read(unsigned vcpu, Gpa address, unsigned size) = 0;
  virtual void mmio_write(unsigned vcpu, Gpa address, u64 value, unsigned size) = 0;

  // Local APIC of that vCPU. CR8 is TPR bits 7:4 (value 0..15).
  virtual u64 cr8_read(unsigned vcpu) = 0;
  virtual void cr8_write(unsigned vcpu, u64 value) = 0;
  // MSRs 800h..83Fh, 6E0h (IA32_TSC_DEADLINE). False: raise #GP(0).
  virtual bool apic_msr_read(unsigned vcpu, u32 msr, u64* value) = 0;
  virtual bool apic_msr_write(unsigned vcpu, u32 msr, u64 value) = 0;
  // IA32_APIC_BASE was written (state change already validated by the caller).
  virtual void apic_base_written(unsigned vcpu, u64 value) = 0;

  // Is a maskable interrupt waiting that this vCPU would take with IF=1?
  virtual bool interrupt_pending(unsigned vcpu) = 0;
  // INTA cycle: the vector to deliver (moves it from IRR to ISR, or asks the 8259); -1 when none.
  virtual int acknowledge_interrupt(unsigned vcpu) = 0;

  // The vCPU's time-stamp counter without TSC_ADJUST.
  virtual u64 tsc() = 0;

  // A line for the guest control device (devices/guest_control.h), without its newline; an empty one only
  // asks whether the device is there.
  virtual GuestCallAnswer guest_call(std::string_view line) = 0;

  // Between two instructions of a vCPU, whose state is `cpu`: it has used up its steps, touched a device, or
  // run a series of PAUSEs (`spins`). Does what is due at this step, and says until which one the same vCPU
  // goes on. Nothing: whoever runs it has to look.
  virtual std::optional<Step> go_on(CpuState& cpu, bool spins) { return std::nullopt; }
};

}  // namespace deja
