// What instructions do to the state of a CPU once nothing can fault any more: the one place that says it, for
// the ordinary helpers and for the quick ways (execute/quick_ops.h). Pure, and inlined everywhere: no memory
// of the guest, no exceptions, no vector registers.
#pragma once

#include "decode/insn.h"
#include "semantics/descriptor.h"

namespace deja {

// --- RFLAGS

[[gnu::always_inline]] inline unsigned iopl(const CpuState& s) { return (s.rflags & flag::IOPL) >> 12; }

[[gnu::always_inline]] inline void load_flags(CpuState& s, u64 value, u64 mask) {
  s.rflags = (s.rflags & ~mask) | (value & mask) | flag::kReserved1;
}

// What PUSHF pushes, and the bits that POPF takes; `size` of the operand.
[[gnu::always_inline]] inline u64 pushf_image(const CpuState& s) { return s.rflags & ~(flag::RF | flag::VM); }
[[gnu::always_inline]] inline u64 popf_mask(const CpuState& s, unsigned size) {
  u64 mask = flag::kStatus | flag::TF | flag::DF | flag::NT;
  if (size >= 4) mask |= flag::AC | flag::ID;
  if (s.v8086() || s.cpl() <= iopl(s)) mask |= flag::IF;
  if (s.cpl() == 0) mask |= flag::IOPL;
  return mask;
}
[[gnu::always_inline]] inline void popf(CpuState& s, u64 value, unsigned size) {
  load_flags(s, value, popf_mask(s, size));
  if (size >= 4) s.rflags &= ~flag::RF;
}

// The bits that IRET takes outside real and virtual-8086 mode, at privilege level `cpl`.
[[gnu::always_inline]] inline u64 iret_mask(const CpuState& s, unsigned cpl, unsigned size) {
  u64 mask = flag::kStatus | flag::TF | flag::DF | flag::NT;
  if (size >= 4) mask |= flag::RF | flag::AC | flag::ID;
  if (cpl <= iopl(s)) mask |= flag::IF;
  if (cpl == 0) mask |= flag::IOPL;
  if (cpl == 0 && size >= 4) mask |= flag::VIF | flag::VIP;
  return mask;
}

[[gnu::always_inline]] inline void set_flag(CpuState& s, u64 bit, bool on) {
  s.rflags = (s.rflags & ~bit) | (on ? bit : 0);
}

// --- system calls and returns (SDM vol. 2B, vol. 3A 5.8.8)

// SYSCALL; goes on at IA32_LSTAR.
[[gnu::always_inline]] inline void enter_system_call(CpuState& s, u64 return_rip) {
  s.gpr[RCX] = return_rip;
  s.gpr[R11] = s.rflags & ~flag::RF;
  s.rflags = (s.rflags & ~s.msr.fmask) | flag::kReserved1;
  const u16 selector = static_cast<u16>(s.msr.star >> 32) & 0xfffc;
  s.seg[CS] = flat_code(selector, 0, true);
  s.seg[SS] = flat_stack(static_cast<u16>(selector + 8), 0);
}

[[gnu::always_inline]] inline u64 sysret_flags(const CpuState& s) {
  constexpr u64 kTaken = 0x3c7fd7;
  return (s.gpr[R11] & kTaken) | flag::kReserved1;
}
// SYSRET; goes on at RCX, or ECX.
[[gnu::always_inline]] inline void leave_system_call(CpuState& s, bool to_64bit) {
  const u16 selector = static_cast<u16>(s.msr.star >> 48);
  s.rflags = sysret_flags(s);
  s.seg[CS] = flat_code(static_cast<u16>((to_64bit ? selector + 16 : selector) | 3), 3, to_64bit);
  s.seg[SS] = flat_stack(static_cast<u16>((selector + 8) | 3), 3);
}

// IRET with a stack segment in its frame; RSP is left to the caller.
[[gnu::always_inline]] inline void return_from_interrupt(CpuState& s, const SegmentRegister& cs,
                                                         const SegmentRegister& ss, u64 flags,
                                                         unsigned size) {
  const bool outer = (cs.selector & 3u) != s.cpl();
  load_flags(s, flags, iret_mask(s, s.cpl(), size));
  s.seg[CS] = cs;
  s.seg[SS] = ss;
  if (outer) unload_inner_segments(s);
}

[[gnu::always_inline]] inline void swap_gs(CpuState& s) {
  const u64 base = s.seg[GS].base;
  s.seg[GS].base = s.msr.kernel_gs_base;
  s.msr.kernel_gs_base = base;
}

// --- time

[[gnu::always_inline]] inline bool may_read_tsc(const CpuState& s) {
  return !(s.cr4 & cr4bit::TSD) || s.cpl() == 0;
}
// RDTSC; `counter`: the TSC.
[[gnu::always_inline]] inline void read_tsc(CpuState& s, u64 counter) {
  s.gpr[RAX] = counter & 0xffffffff;
  s.gpr[RDX] = counter >> 32;
}
// And RDTSCP.
[[gnu::always_inline]] inline void read_tsc_aux(CpuState& s) { s.gpr[RCX] = s.msr.tsc_aux & 0xffffffff; }

// --- operands

// Offset of the memory operand within its segment, truncated to the address size; `rip` is the instruction's
// own.
[[gnu::always_inline]] inline u64 effective_offset(const u64 (&gpr)[16], u64 rip, const Insn& insn) {
  const MemOperand& m = insn.mem;
  u64 offset = static_cast<u64>(m.disp);
  if (m.rip_relative) offset += rip + insn.length;
  if (m.base >= 0) offset += gpr[m.base];
  if (m.index >= 0 && !m.vector_index) offset += gpr[m.index] * m.scale;
  if (m.address_size == 2) return static_cast<u16>(offset);
  if (m.address_size == 4) return static_cast<u32>(offset);
  return offset;
}

// BT, BTS, BTR, BTC with a memory operand and a register index: the index, signed, selects any bit of memory
// relative to the operand's address (SDM vol. 2A, BT).
struct SelectedBit {
  i64 distance;  // of its element from the operand's address, in bytes
  u64 mask;      // within the element
};
[[gnu::always_inline]] inline SelectedBit select_bit(u64 index, unsigned size) {
  const i64 i = size == 8   ? static_cast<i64>(index)
                : size == 4 ? i64{static_cast<i32>(index)}
                            : i64{static_cast<i16>(index)};
  const unsigned shift = size == 8 ? 6 : size == 4 ? 5 : 4;
  return {(i >> shift) * static_cast<i64>(size), u64{1} << (index & (8 * size - 1))};
}
[[gnu::always_inline]] inline bool writes_bit(ZydisMnemonic m) { return m != ZYDIS_MNEMONIC_BT; }
// The element afterwards. CF becomes the bit as it was; OF, SF, AF, PF are undefined; canonical: unchanged
// (docs/undefined-flags.md).
[[gnu::always_inline]] inline u64 test_bit(CpuState& s, ZydisMnemonic m, u64 element, u64 mask) {
  set_flag(s, flag::CF, element & mask);
  switch (m) {
    case ZYDIS_MNEMONIC_BTS:
      return element | mask;
    case ZYDIS_MNEMONIC_BTR:
      return element & ~mask;
    case ZYDIS_MNEMONIC_BTC:
      return element ^ mask;
    default:
      return element;
  }
}

// CMPXCHG16B of `memory`, which becomes what is written there.
[[gnu::always_inline]] inline void compare_exchange16(CpuState& s, u64 (&memory)[2]) {
  const bool equal = memory[0] == s.gpr[RAX] && memory[1] == s.gpr[RDX];
  if (equal) {
    memory[0] = s.gpr[RBX];
    memory[1] = s.gpr[RCX];
  } else {
    s.gpr[RAX] = memory[0];
    s.gpr[RDX] = memory[1];
  }
  set_flag(s, flag::ZF, equal);
}

// --- string instructions (string_ops.cc)

// How many ascending elements from `at` on are wholly in its page; 0: the first one crosses its end.
[[gnu::always_inline]] inline u64 elements_in_page(Gva at, unsigned size) {
  const u64 bytes = kPageSize - at.offset();
  return size == 8 ? bytes >> 3 : size == 4 ? bytes >> 2 : size == 2 ? bytes >> 1 : bytes;
}

}  // namespace deja
