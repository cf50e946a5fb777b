#include "execute/quick_ops.h"

#include "execute/quick_context.h"
#include "execute/quick_strings.h"

namespace deja {

using namespace quick;

namespace {

// --- flags

DEJA_INLINE u64 sti(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0) return kQuickDeclined;
  if (s.rflags & flag::IF) return resume(q);
  // Interrupts stay blocked until after the next instruction. With none waiting, only those can tell who look
  // before it has run: nobody, when the block's head has counted it already.
  if (q.context.quick.interrupt_pending || q.site.insn + 1u >= q.block.count) return kQuickDeclined;
  s.rflags |= flag::IF;
  return resume(q);
}

DEJA_INLINE u64 push_flags(const Quick& q) {
  CpuState& s = q.s;
  const u64 to = s.gpr[RSP] - 8;
  u8* at = plain_data(q) ? writable(q, q.block.mode.view(), Gva(to), 8) : nullptr;
  if (!at) return kQuickDeclined;
  store64(at, pushf_image(s));
  s.gpr[RSP] = to;
  return resume(q);
}

DEJA_INLINE u64 pop_flags(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0 || !plain_data(q)) return kQuickDeclined;
  const u8* at = readable(q, q.block.mode.view(), Gva(s.gpr[RSP]), 8);
  if (!at) return kQuickDeclined;
  const u64 value = load64(at);
  if (value & flag::TF) return kQuickDeclined;
  const u64 before = s.rflags;
  popf(s, value, 8);
  s.gpr[RSP] += 8;
  const bool other_mode = (s.rflags ^ before) & flag::AC;
  if (!other_mode && !((s.rflags & flag::IF) && q.context.quick.interrupt_pending)) return resume(q);
  return leave_to(q, next_rip(q));
}

DEJA_INLINE u64 set_ac(const Quick& q, bool on) {
  if (q.s.cpl() != 0) return kQuickDeclined;
  set_flag(q.s, flag::AC, on);
  return leave_to(q, next_rip(q));
}

// --- segment bases, time, control registers

DEJA_INLINE Seg named_segment(const Quick& q) {
  const ZydisMnemonic m = q.site.decoded.mnemonic;
  return m == ZYDIS_MNEMONIC_RDFSBASE || m == ZYDIS_MNEMONIC_WRFSBASE ? FS : GS;
}

DEJA_INLINE u64 read_base(const Quick& q) {
  if (!(q.s.cr4 & cr4bit::FSGSBASE)) return kQuickDeclined;
  q.s.gpr[q.site.decoded.op[0].reg] = q.s.seg[named_segment(q)].base;
  return resume(q);
}

DEJA_INLINE u64 write_base(const Quick& q) {
  const u64 value = q.s.gpr[q.site.decoded.op[0].reg];
  if (!(q.s.cr4 & cr4bit::FSGSBASE) || !is_canonical(q.s, value)) return kQuickDeclined;
  q.s.seg[named_segment(q)].base = value;
  return resume(q);
}

DEJA_INLINE u64 swapgs(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0) return kQuickDeclined;
  swap_gs(s);
  return resume(q);
}

DEJA_INLINE u64 rdtsc(const Quick& q, bool aux) {
  CpuState& s = q.s;
  if (!q.context.quick.tsc_counts_steps || !may_read_tsc(s)) return kQuickDeclined;
  const u64 steps = q.context.end_step - static_cast<u64>(q.context.remaining() + uncounted(q));
  read_tsc(s, steps + q.context.quick.tsc_offset);
  if (aux) read_tsc_aux(s);
  return resume(q);
}

DEJA_INLINE u64 read_cr(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0) return kQuickDeclined;
  const unsigned number = q.site.decoded.op[1].reg;
  s.gpr[q.site.decoded.op[0].reg] = number == 0 ? s.cr0 : number == 2 ? s.cr2 : number == 3 ? s.cr3 : s.cr4;
  return resume(q);
}

// --- system calls and returns

DEJA_INLINE u64 syscall(const Quick& q) {
  CpuState& s = q.s;
  if (!(s.efer & eferbit::SCE)) return kQuickDeclined;
  enter_system_call(s, next_rip(q));
  return leave_to(q, s.msr.lstar);
}

DEJA_INLINE u64 sysret(const Quick& q) {
  CpuState& s = q.s;
  if (!(s.efer & eferbit::SCE) || s.cpl() != 0 || !is_canonical(s, s.gpr[RCX]) ||
      (sysret_flags(s) & flag::TF))
    return kQuickDeclined;
  leave_system_call(s, true);
  return leave_to(q, s.gpr[RCX]);
}

// A descriptor of the GDT; one that is not present when it is not there, or not in the TLB, or would have to
// be marked accessed.
DEJA_INLINE Descriptor descriptor(const Quick& q, u16 selector) {
  const CpuState& s = q.s;
  const unsigned offset = selector & 0xfff8;
  if ((selector & kTableIndicator) || offset == 0 || offset + 7 > s.gdtr.limit) return {};
  const View view = s.cr4 & cr4bit::SMAP ? View::kernel_smap : View::kernel;
  const u8* at = readable(q, view, Gva(s.gdtr.base + offset), 8);
  if (!at) return {};
  const Descriptor d{SystemGva(s.gdtr.base + offset), load64(at)};
  return d.accessed() ? d : Descriptor{};
}

// From CPL 0 in 64-bit mode to 64-bit mode.
DEJA_INLINE u64 iret(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0 || (s.rflags & flag::NT) || !plain_data(q)) return kQuickDeclined;
  const u8* frame = readable(q, q.block.mode.view(), Gva(s.gpr[RSP]), 40);
  if (!frame) return kQuickDeclined;
  const u64 rip = load64(frame), flags = load64(frame + 16), rsp = load64(frame + 24);
  const u16 cs_selector = static_cast<u16>(load64(frame + 8)),
            ss_selector = static_cast<u16>(load64(frame + 32));
  if ((flags & flag::TF) || !is_canonical(s, rip)) return kQuickDeclined;
  const unsigned cpl = cs_selector & 3;
  const Descriptor code = descriptor(q, cs_selector);
  if (return_segment_fault(s, cs_selector, code) != kNoVector || !code.long_mode()) return kQuickDeclined;
  SegmentRegister ss;
  if (null_selector(ss_selector)) {
    // The kernel runs on it after an interrupt.
    if (!null_stack_allowed(ss_selector, cpl, true)) return kQuickDeclined;
    ss = null_stack_segment(ss_selector, cpl);
  } else {
    const Descriptor stack = descriptor(q, ss_selector);
    if (stack_segment_fault(ss_selector, cpl, stack, kGP) != kNoVector) return kQuickDeclined;
    ss = make_segment(ss_selector, stack);
  }
  s.nmi_blocked = false;
  return_from_interrupt(s, make_segment(cs_selector, code), ss, flags, 8);
  s.gpr[RSP] = rsp;
  return leave_to(q, rip);
}

// --- memory operands

DEJA_INLINE Gva operand_address(const Quick& q) {
  const Insn& i = q.site.decoded;
  const u64 offset = effective_offset(q.s.gpr, next_rip(q) - i.length, i);
  return Gva(offset + (i.mem.segment >= FS ? q.s.seg[i.mem.segment].base : 0));
}

DEJA_INLINE u64 bit(const Quick& q) {
  CpuState& s = q.s;
  const Insn& i = q.site.decoded;
  if (!plain_data(q)) return kQuickDeclined;
  const bool wide = i.operand_size == 8;
  const SelectedBit bit = select_bit(s.gpr[i.op[1].reg], wide ? 8 : 4);
  const Gva linear = operand_address(q) + static_cast<u64>(bit.distance);
  const bool writes = writes_bit(i.mnemonic);
  const View view = q.block.mode.view();
  u8* at = writes ? writable(q, view, linear, i.operand_size) : readable(q, view, linear, i.operand_size);
  if (!at) return kQuickDeclined;
  u64 value = 0;
  if (wide)
    value = load64(at);
  else
    __builtin_memcpy(&value, at, 4);
  value = test_bit(s, i.mnemonic, value, bit.mask);
  if (writes && wide)
    store64(at, value);
  else if (writes)
    __builtin_memcpy(at, &value, 4);
  return resume(q);
}

DEJA_INLINE u64 cmpxchg16b(const Quick& q) {
  const Gva linear = operand_address(q);
  u8* at = plain_data(q) && linear.value % 16 == 0 ? writable(q, q.block.mode.view(), linear, 16) : nullptr;
  if (!at) return kQuickDeclined;
  u64 value[2] = {load64(at), load64(at + 8)};
  compare_exchange16(q.s, value);
  store64(at, value[0]);
  store64(at + 8, value[1]);
  return resume(q);
}

DEJA_INLINE u64 run(const Quick& q) {
  CpuState& s = q.s;
  // Single-stepping and breakpoints belong to the dispatcher.
  if ((s.rflags & (flag::TF | flag::RF)) || s.pending_dbg) return kQuickDeclined;
  switch (q.site.quick) {
    case QuickOp::none:
      return kQuickDeclined;
    case QuickOp::cli:
      if (s.cpl() != 0) return kQuickDeclined;
      s.rflags &= ~flag::IF;
      return resume(q);
    case QuickOp::sti:
      return sti(q);
    case QuickOp::pushf:
      return push_flags(q);
    case QuickOp::popf:
      return pop_flags(q);
    case QuickOp::stac:
      return set_ac(q, true);
    case QuickOp::clac:
      return set_ac(q, false);
    case QuickOp::cld:
      return s.rflags &= ~flag::DF, resume(q);
    case QuickOp::std:
      return s.rflags |= flag::DF, resume(q);
    case QuickOp::swapgs:
      return swapgs(q);
    case QuickOp::read_base:
      return read_base(q);
    case QuickOp::write_base:
      return write_base(q);
    case QuickOp::rdtsc:
      return rdtsc(q, false);
    case QuickOp::rdtscp:
      return rdtsc(q, true);
    case QuickOp::pause:
      if (q.context.quick.several_vcpus && s.pause_run + 1 >= kPausesPerQuantum) return kQuickDeclined;
      return ++s.pause_run, resume(q);
    case QuickOp::read_cr:
      return read_cr(q);
    case QuickOp::read_seg:
      s.gpr[q.site.decoded.op[0].reg] = s.seg[q.site.decoded.op[1].reg].selector;
      return resume(q);
    case QuickOp::syscall:
      return syscall(q);
    case QuickOp::sysret:
      return sysret(q);
    case QuickOp::iret:
      return iret(q);
    case QuickOp::bit:
      return bit(q);
    case QuickOp::cmpxchg16b:
      return cmpxchg16b(q);
    case QuickOp::stos:
      return string<false>(q);
    case QuickOp::movs:
      return string<true>(q);
  }
  return kQuickDeclined;
}

}  // namespace

[[gnu::flatten]] u64 run_quick(ExecContext* context, u64 site_id, u64) {
  const HelperSite& site = context->quick.store->helper_sites[site_id];
  context->arrive();
  const u64 code = run({*context, context->state, site, context->quick.store->blocks[site.block]});
  ++context->quick.calls[code != kQuickDeclined];
  context->depart();
  return code;
}

}  // namespace deja
