// Pushing and popping of several values as one unit: nothing of the guest's state or memory changes before
// all of it is known to succeed.
#pragma once

#include "semantics/vcpu.h"

namespace deja {

// Width of stack addresses in bytes, as SS and the mode say (SDM vol. 1 6.2.3).
inline unsigned stack_width(const CpuState& s) { return s.mode64() ? 8 : s.seg[SS].big() ? 4 : 2; }

// Writes RSP, ESP or SP; a narrower stack pointer leaves what SP alone does not hold.
void set_stack_pointer(CpuState& s, unsigned width, u64 value);

class StackWriter {
 public:
  // Pushes onto `ss`:`rsp`, which need not be the current stack; stack addresses have `width` bytes (8:
  // 64-bit mode, flat). Limit and canonical violations raise #SS(error).
  StackWriter(Vcpu& cpu, const SegmentRegister& ss, u64 rsp, unsigned width, Rights rights, u32 error);
  // The current stack with the current rights.
  explicit StackWriter(Vcpu& cpu);

  void push(u64 value, unsigned size);
  // Writes memory; all of it or, with a GuestFault, none. A page fault is that of the first push that meets
  // one, in the order of the pushes. The caller then sets the stack pointer to rsp().
  void commit();
  u64 rsp() const { return rsp_; }

 private:
  // Call gates copy up to 31 parameters and push 4 values; ENTER pushes up to 32 values.
  static constexpr unsigned kMaxPushes = 40, kMaxBytes = kMaxPushes * 8;
  struct Run {
    Gva address;
    unsigned start = 0, size = 0;  // in bytes_
  };
  // Calls access(address) with the kind of address that the stack has. One with 64-bit addresses belongs to
  // 64-bit code, which an event or a call gate enters perhaps from compatibility mode.
  template <class F>
  void with_address(Gva address, F&& access) const {
    if (width_ == 8)
      access(SystemGva(address.value));
    else
      access(address);
  }

  Vcpu& cpu_;
  SegmentRegister ss_;
  u64 rsp_;
  unsigned width_;
  Rights rights_;
  u32 error_;
  u8 bytes_[kMaxBytes];
  unsigned used_ = 0;  // from the end
  struct Push {
    Gva address;
    u8 size = 0;
  } pushes_[kMaxPushes];
  unsigned push_count_ = 0;
  Run runs_[3];  // contiguous in linear addresses; a stack that wraps has more than one
  unsigned run_count_ = 0;
};

class StackReader {
 public:
  explicit StackReader(Vcpu& cpu);
  u64 pop(unsigned size);
  void skip(u64 bytes);
  // Makes the new stack pointer effective.
  void commit() { set_stack_pointer(cpu_.state, width_, rsp_); }
  u64 rsp() const { return rsp_; }

 private:
  Vcpu& cpu_;
  unsigned width_;
  u64 rsp_;
};

}  // namespace deja
