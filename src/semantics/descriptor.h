// What segment descriptors and selectors say (SDM vol. 3A chapters 3 and 5), and the segments that
// instructions load without looking at any table. Pure, and inlined everywhere: the quick ways
// (execute/quick_ops.h) use it too.
#pragma once

#include <initializer_list>

#include "guest/cpu_state.h"
#include "guest/fault.h"
#include "semantics/system_gva.h"

namespace deja {

inline constexpr u16 kTableIndicator = 4;  // of a selector: in the LDT

[[gnu::always_inline]] inline bool null_selector(u16 selector) { return (selector & 0xfffc) == 0; }

// System-segment and gate types (SDM vol. 3A table 3-2).
enum SystemType : u8 {
  kTss16Available = 1,
  kLdt = 2,
  kTss16Busy = 3,
  kCallGate16 = 4,
  kTaskGate = 5,
  kInterruptGate16 = 6,
  kTrapGate16 = 7,
  kTssAvailable = 9,  // 32-bit; 64-bit in IA-32e mode
  kTssBusy = 11,
  kCallGate = 12,
  kInterruptGate = 14,
  kTrapGate = 15,
};

struct Descriptor {
  SystemGva address;  // where it stands
  u64 raw = 0;        // the first 8 bytes
  u64 high = 0;       // the next 8, for the 16-byte descriptors of IA-32e mode

  unsigned type() const { return (raw >> 40) & 15; }
  bool accessed() const { return raw >> 40 & 1; }  // of code and data
  bool system() const { return !(raw >> 44 & 1); }
  unsigned dpl() const { return (raw >> 45) & 3; }
  bool present() const { return raw >> 47 & 1; }
  bool long_mode() const { return raw >> 53 & 1; }
  bool big() const { return raw >> 54 & 1; }
  bool code() const { return !system() && (type() & 8); }
  bool conforming_code() const { return code() && (type() & 4); }
  bool writable_data() const { return !system() && (type() & 10) == 2; }
  bool readable() const { return !system() && (type() & 10) != 8; }
  u32 limit() const {
    const u32 l = static_cast<u32>(raw & 0xffff) | static_cast<u32>(raw >> 32 & 0xf0000);
    return raw >> 55 & 1 ? l << 12 | 0xfff : l;
  }
  u64 base() const { return (raw >> 16 & 0xffffff) | (raw >> 56 & 0xff) << 24 | high << 32; }
  u16 attr() const { return static_cast<u16>(raw >> 40 & 0xf0ff); }

  // As a gate.
  u16 gate_selector() const { return static_cast<u16>(raw >> 16); }
  u32 gate_offset() const {
    return static_cast<u32>(raw & 0xffff) | static_cast<u32>(raw >> 32 & 0xffff0000);
  }
  u64 gate_offset64() const { return gate_offset() | high << 32; }
};

[[gnu::always_inline]] inline SegmentRegister make_segment(u16 selector, const Descriptor& d) {
  return {.base = d.base(), .limit = d.limit(), .selector = selector, .attr = d.attr()};
}

// The flat segments of SYSCALL, SYSENTER and their returns: G, P, S, code or data, accessed; L or D.
[[gnu::always_inline]] inline SegmentRegister flat_code(u16 selector, unsigned dpl, bool long_mode) {
  return {.base = 0,
          .limit = 0xffffffff,
          .selector = selector,
          .attr = static_cast<u16>((long_mode ? 0xa09b : 0xc09b) | dpl << 5)};
}
[[gnu::always_inline]] inline SegmentRegister flat_stack(u16 selector, unsigned dpl) {
  return {.base = 0, .limit = 0xffffffff, .selector = selector, .attr = static_cast<u16>(0xc093 | dpl << 5)};
}
// SS after a change of privilege in IA-32e mode: unusable, but DPL keeps holding the privilege level.
[[gnu::always_inline]] inline SegmentRegister null_stack_segment(u16 selector, unsigned cpl) {
  return {.base = 0, .limit = 0, .selector = selector, .attr = static_cast<u16>(cpl << 5)};
}

// What a far return or IRET to the code segment `d` raises, with the selector; or kNoVector.
[[gnu::always_inline]] inline u8 return_segment_fault(const CpuState& s, u16 selector, const Descriptor& d) {
  const unsigned rpl = selector & 3;
  if (!d.code() || rpl < s.cpl()) return kGP;
  if (d.conforming_code() ? d.dpl() > rpl : d.dpl() != rpl) return kGP;
  if (s.long_mode_active() && d.long_mode() && d.big()) return kGP;
  return d.present() ? kNoVector : kNP;
}

// The same for a stack segment of privilege level `cpl`; `bad`: what one raises that is none (#GP or #TS).
[[gnu::always_inline]] inline u8 stack_segment_fault(u16 selector, unsigned cpl, const Descriptor& d,
                                                     u8 bad) {
  if ((selector & 3u) != cpl || d.dpl() != cpl || !d.writable_data()) return bad;
  return d.present() ? kNoVector : kSS;
}

// Whether a return to level `cpl` may leave SS null: to 64-bit code that is not the user's.
[[gnu::always_inline]] inline bool null_stack_allowed(u16 selector, unsigned cpl, bool to_64bit) {
  return to_64bit && cpl != 3 && (selector & 3u) == cpl;
}

// On a return to an outer level: unloads data segments that the outer level must not use (SDM vol. 2B "RET").
[[gnu::always_inline]] inline void unload_inner_segments(CpuState& s) {
  const unsigned cpl = s.cpl();
  for (const Seg seg : {ES, DS, FS, GS}) {
    SegmentRegister& r = s.seg[seg];
    if (!null_selector(r.selector) && (r.dpl() >= cpl || r.conforming_code())) continue;
    // The base stays: FS and GS bases live on under null selectors in 64-bit mode.
    r.selector = 0;
    r.attr = 0;
  }
}

}  // namespace deja
