// What the files of the quick ways share (quick_ops.h): memory that the TLB has, and the ways out. All of it
// is inlined.
#pragma once

#include "execute/quick_ops.h"
#include "semantics/pure_ops.h"

#define DEJA_INLINE [[gnu::always_inline]] inline

namespace deja::quick {

// --- memory: what the TLB has, inside one page

DEJA_INLINE u8* cached(const ExecContext& context, View view, bool write, Gva linear, unsigned size) {
  const ViewTables& t = context.quick.tables->view[static_cast<unsigned>(view)];
  const u64 slot = page_slot(linear);
  if ((write ? t.write_tag : t.read_tag)[slot] + linear.value + (size - 1) >= kPageSize) return nullptr;
  return reinterpret_cast<u8*>(t.addend[slot] + linear.value);
}
DEJA_INLINE u64 load64(const u8* at) {
  u64 value;
  __builtin_memcpy(&value, at, 8);
  return value;
}
DEJA_INLINE void store64(u8* at, u64 value) { __builtin_memcpy(at, &value, 8); }

// At most an operand's bytes. Not a loop that the compiler would make a call of memcpy.
DEJA_INLINE void copy(u8* to, const u8* from, unsigned count) {
  for (; count >= 8; to += 8, from += 8, count -= 8) {
    store64(to, load64(from));
    asm volatile("" ::: "memory");
  }
  for (; count; ++to, ++from, --count) {
    *to = *from;
    asm volatile("" ::: "memory");
  }
}

// A quick operation at work.
struct Quick {
  ExecContext& context;
  CpuState& s;
  const HelperSite& site;
  const Block& block;
};

// Data breakpoints and alignment checks go the ordinary way.
DEJA_INLINE bool plain_data(const Quick& q) {
  return !q.block.mode.has(BlockMode::kAlignCheck) && !q.block.mode.has(BlockMode::kSlowData);
}

DEJA_INLINE u8* readable(const Quick& q, View view, Gva linear, unsigned size) {
  return cached(q.context, view, false, linear, size);
}
DEJA_INLINE u8* writable(const Quick& q, View view, Gva linear, unsigned size) {
  return cached(q.context, view, true, linear, size);
}

// --- ways out

DEJA_INLINE u64 resume(const Quick& q) {
  q.context.vectors_wanted = 0;  // if they were away, the block has not needed them so far
  return q.context.quick.cache_exec + q.site.resume;
}

// This instruction and those behind it whose steps are off the counter.
DEJA_INLINE i64 uncounted(const Quick& q) { return q.block.prepaid(q.site.insn); }

DEJA_INLINE u64 next_rip(const Quick& q) {
  return q.context.current_page + q.context.quick.store->page_offset(q.block, q.site.insn) +
         q.site.decoded.length;
}

// The instruction has completed; the next is at `rip`, in a block of another mode perhaps.
DEJA_INLINE u64 leave_to(const Quick& q, u64 rip) {
  CpuState& s = q.s;
  q.context.set_remaining(q.context.remaining() + uncounted(q) - 1);
  s.rip = rip;
  if (q.context.remaining() <= 0 || (s.rflags & flag::TF) || (s.dr7 & 0xff) || s.nmi_pending)
    return kQuickDispatch;
  if ((s.rflags & flag::IF) && q.context.quick.interrupt_pending) return kQuickDispatch;
  if (!s.mode64()) return kQuickDispatch;
  const u32 mode = q.context.quick.system_mode | kMode64 | privilege_mode(s);
  const unsigned view = static_cast<unsigned>(BlockMode{mode}.view());
  ViewTables& tables = q.context.quick.tables->view[view];
  const u64 code = tables.jump_mode == mode ? find_jump(tables, Gva(rip)) : 0;
  if (!code) return kQuickDispatch;
  // With breakpoints off and a step left, RF has no effect on the next instruction, and goes with it.
  s.rflags &= ~flag::RF;
  q.context.r9 = rip;
  q.context.vectors_wanted = s.cpl() == 3;
  return code;
}

}  // namespace deja::quick
