// What translated code sees besides guest memory: one block of host memory that lies within RIP reach of the
// code cache, and the tables of the current address space, which the host's GS base points at.
//
// Host registers in translated code:
//   rax rdx rbx rsp rbp rsi rdi r12-r15   the guest's registers of the same name
//   r8                                    guest RCX
//   rcx r9 r10                            scratch
//   r11                                   step counter: (steps left in the slice << 6) | 12
//   EFLAGS                                guest CF PF AF ZF SF OF; DF, TF, AC are always 0 on the host
//   x87, MXCSR                            the guest's
//   ymm0-15                               the guest's, always in code for CPL 3; elsewhere unless
//   vectors_away
// Guest r8-r11 live in state.gpr[8..11]. The low six bits of r11 are the shift count of `shrx reg, reg, r11`,
// with which a difference of addresses is reduced to its page number without touching flags.
#pragma once

#include "guest/cpu_state.h"

namespace deja {

inline constexpr unsigned kCounterShift = 6;
inline constexpr u64 kCounterLow = 12;

// Three views of an address space, by what the current privilege may touch.
enum class View : u8 {
  user,         // CPL 3
  kernel,       // CPL 0-2, user pages accessible (SMAP off or RFLAGS.AC = 1)
  kernel_smap,  // CPL 0-2, user pages not accessible
};
inline constexpr unsigned kViews = 3;

// Tables that inline code looks up, the TLB by the low 20 bits of the virtual page number, which one 32-bit
// shift leaves over; the jump cache by 16 bits of a hash of the linear PC (jump_slot). A tag is the negated
// page address or PC, so that adding the address looked up gives 0 (+ offset) on a hit. Most of them is never
// touched.
inline constexpr u64 kTlbSlots = 1 << 20;
constexpr u64 page_slot(Gva linear) { return linear.value >> kPageShift & (kTlbSlots - 1); }
inline constexpr u64 kJumpSlots = 1 << 16;
// Direct jumps to other pages have slots of their own, by site (FarLink).
inline constexpr u64 kFarLinks = 1 << 17;
// Whole pages: a view can be mapped into several address spaces.
struct alignas(4096) ViewTables {
  u64 read_tag[kTlbSlots];
  u64 write_tag[kTlbSlots];
  u64 addend[kTlbSlots];  // host address minus guest linear address
  u64 jump_tag[kJumpSlots];
  u64 jump_code[kJumpSlots];  // far entry in the code cache
  // Each slot's second way, which inline code does not look into (find_jump).
  u64 second_jump_tag[kJumpSlots];
  u64 second_jump_code[kJumpSlots];
  u64 far_link[kFarLinks];  // likewise, or CodeTargets::far_link
  u32 jump_mode;            // BlockMode of the code in the jump cache
};
struct AddressSpaceTables {
  ViewTables view[kViews];
};

// A tag for slot `index` that no access hits: 0 would be hit by page 0 in slot 0 and, by wrapping around the
// top of the address space, from the last slot.
constexpr u64 invalid_page_tag(u64 index) {
  return index == 0 || index == kTlbSlots - 1 ? u64{0} - ((index ^ kTlbSlots / 2) << kPageShift) : 0;
}
// No two PCs less than 60 KiB apart have the same slot, and function entries, which stand on 16-byte
// boundaries, use all slots: 17 is odd.
inline constexpr unsigned kJumpSlotShift = 4;
constexpr u64 jump_slot(Gva pc) { return (pc.value + (pc.value >> kJumpSlotShift)) & (kJumpSlots - 1); }
constexpr u64 invalid_jump_tag(u64 slot) { return slot == 0 ? u64{0} - (1 << kJumpSlotShift) : 0; }

// Where the jump cache has `pc` lead, or 0. What is found is in its slot's first way from now on.
inline u64 find_jump(ViewTables& t, Gva pc) {
  const u64 slot = jump_slot(pc);
  if (t.jump_tag[slot] + pc.value == 0) return t.jump_code[slot];
  if (t.second_jump_tag[slot] + pc.value != 0) return 0;
  const u64 tag = t.jump_tag[slot], code = t.jump_code[slot];
  t.jump_tag[slot] = t.second_jump_tag[slot];
  t.jump_code[slot] = t.second_jump_code[slot];
  t.second_jump_tag[slot] = tag;
  t.second_jump_code[slot] = code;
  return t.jump_code[slot];
}

struct CodeStore;

// What execute/quick_ops.cc has to know of the engine, which keeps it current.
struct QuickContext {
  const CodeStore* store = nullptr;
  AddressSpaceTables* tables = nullptr;  // of the current address space, as the host's GS base
  u64 cache_exec = 0;
  u64 tsc_offset = 0;              // the TSC is steps + tsc_offset…
  bool tsc_counts_steps = false;   // …with this machine's clock
  bool interrupt_pending = false;  // a maskable interrupt waits; changes only while C++ of the machine runs
  bool several_vcpus = false;
  u32 system_mode = 0;    // as system_mode() says
  u64 calls[2] = {0, 0};  // declined; done
  bool enabled = true;    // off: operands in two pages and jumps that missed are declined
  u64 second_jumps = 0;   // jumps that found their target in the second way of the jump cache
  // A memory operand in two pages, both of them in the TLB, which the instruction finds in the bounce buffer.
  u32 first_copy = 0;     // MemSite::special from here on is the site's own
  bool crossing = false;  // the instruction is at work on one
  u8* part[2] = {nullptr, nullptr};
  unsigned part_size[2] = {0, 0};
  u64 crossings = 0;
};

struct alignas(4096) ExecContext {
  CpuState state;

  u64 current_page = 0;  // linear address of the page that the running block was entered in
  u64 counter = 0;       // r11 while C++ runs
  u64 host_rsp = 0;
  u64 resume = 0;       // host address to go on at after a call into C++
  u64 r9 = 0, r10 = 0;  // scratch registers to load on resumption
  u64 poison = 0;       // loaded into rcx on resumption, where it means nothing: junk in chaos mode
  u64 branch_target = 0;
  u64 scratch = 0;
  u64 host_fault_pc = 0;
  u64 host_fault_trap = 0;       // x86 vector of the host exception
  u64 group_addend[8] = {};      // of the running block's groups of accesses (plan.h)
  u64 old_value = 0;             // scratch of flag_fixes.cc
  u32 count_mask[2] = {31, 63};  // what shift counts are taken modulo, less one: up to 32 bits, 64
  u16 flags_ax = 0;              // AX after LAHF and SETO AL: SF ZF AF PF CF, and OF
  // The guest's vector registers are in state.fpu, not in the host's: C++ has run since they were last
  // needed.
  u8 vectors_away = 1;
  u8 vectors_wanted = 0;  // C++ returns to code that takes them for granted: load them if they are away
  u64 end_step = 0;       // the step at which the counter reaches 0
  class Engine* engine = nullptr;  // execute/engine.h: whose context it is
  QuickContext quick;
  alignas(64) u8 bounce[128] = {};

  // What the host's EFLAGS held when C++ was called, into state.rflags; and back.
  [[gnu::always_inline]] void arrive() {
    state.rflags =
        (state.rflags & ~flag::kStatus) | (flags_ax >> 8 & 0xd5u) | (flags_ax & 0xff ? flag::OF : 0);
  }
  [[gnu::always_inline]] void depart() {
    // In one store, which can be forwarded to the load that follows soon.
    flags_ax = static_cast<u16>((state.rflags & 0xd5) << 8 | ((state.rflags & flag::OF) != 0));
  }
  [[gnu::always_inline]] i64 remaining() const { return static_cast<i64>(counter) >> kCounterShift; }
  [[gnu::always_inline]] void set_remaining(i64 steps) {
    counter = static_cast<u64>(steps) << kCounterShift | kCounterLow;
  }
};

// Slices never exceed this many steps: the guard region that the counter probe reads is sized by it.
inline constexpr i64 kMaxSliceSteps = i64{1} << 22;

}  // namespace deja
