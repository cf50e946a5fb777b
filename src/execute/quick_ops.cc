#include "execute/quick_ops.h"

#define DEJA_INLINE [[gnu::always_inline]] inline

namespace deja {
namespace {

struct Quick {
  ExecContext& context;
  CpuState& s;
  const HelperSite& site;
  const Block& block;
};

DEJA_INLINE bool canonical(u64 address) { return sign_extend(address, 48) == address; }

// --- memory: what the TLB has, inside one page

DEJA_INLINE u8* cached(const ExecContext& context, View view, bool write, u64 linear, unsigned size) {
  const ViewTables& t = context.quick.tables->view[static_cast<unsigned>(view)];
  const u64 slot = page_slot(linear);
  if ((write ? t.write_tag : t.read_tag)[slot] + linear + (size - 1) >= kPageSize) return nullptr;
  return reinterpret_cast<u8*>(t.addend[slot] + linear);
}
DEJA_INLINE u8* readable(const Quick& q, View view, u64 linear, unsigned size) {
  return cached(q.context, view, false, linear, size);
}
DEJA_INLINE u8* writable(const Quick& q, View view, u64 linear, unsigned size) {
  return cached(q.context, view, true, linear, size);
}
DEJA_INLINE u64 load64(const u8* at) {
  u64 value;
  __builtin_memcpy(&value, at, 8);
  return value;
}
DEJA_INLINE void store64(u8* at, u64 value) { __builtin_memcpy(at, &value, 8); }

// Data breakpoints and alignment checks go the ordinary way.
DEJA_INLINE bool plain_data(const Quick& q) {
  return !q.block.mode.has(BlockMode::kAlignCheck) && !q.block.mode.has(BlockMode::kSlowData);
}

// --- ways out

DEJA_INLINE u64 resume(const Quick& q) {
  q.context.vectors_wanted = 0;  // if they were away, the block has not needed them so far
  return q.context.quick.cache_exec + q.site.resume;
}

// This instruction and those behind it whose steps are off the counter.
DEJA_INLINE i64 uncounted(const Quick& q) { return q.block.prepaid(q.site.insn); }

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
  const u64 code = tables.jump_mode == mode ? find_jump(tables, rip) : 0;
  if (!code) return kQuickDispatch;
  // With breakpoints off and a step left, RF has no effect on the next instruction, and goes with it.
  s.rflags &= ~flag::RF;
  q.context.r9 = rip;
  q.context.vectors_wanted = s.cpl() == 3;
  return code;
}

DEJA_INLINE u64 next_rip(const Quick& q) {
  return q.context.current_page + q.context.quick.store->page_offset(q.block, q.site.insn) +
         q.site.decoded.length;
}

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

DEJA_INLINE u64 pushf(const Quick& q) {
  CpuState& s = q.s;
  const u64 to = s.gpr[RSP] - 8;
  u8* at = plain_data(q) ? writable(q, q.block.mode.view(), to, 8) : nullptr;
  if (!at) return kQuickDeclined;
  store64(at, s.rflags & ~(flag::RF | flag::VM));
  s.gpr[RSP] = to;
  return resume(q);
}

DEJA_INLINE u64 popf(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0 || !plain_data(q)) return kQuickDeclined;
  const u8* at = readable(q, q.block.mode.view(), s.gpr[RSP], 8);
  if (!at) return kQuickDeclined;
  constexpr u64 kLoaded = flag::kStatus | flag::IF | flag::DF | flag::IOPL | flag::NT | flag::AC | flag::ID;
  const u64 value = load64(at);
  if (value & flag::TF) return kQuickDeclined;
  const u64 before = s.rflags;
  s.rflags = (before & ~kLoaded) | (value & kLoaded) | flag::kReserved1;
  s.gpr[RSP] += 8;
  const bool other_mode = (s.rflags ^ before) & flag::AC;
  if (!other_mode && !((s.rflags & flag::IF) && q.context.quick.interrupt_pending)) return resume(q);
  return leave_to(q, next_rip(q));
}

DEJA_INLINE u64 set_ac(const Quick& q, u64 ac) {
  if (q.s.cpl() != 0) return kQuickDeclined;
  q.s.rflags = (q.s.rflags & ~flag::AC) | ac;
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
  if (!(q.s.cr4 & cr4bit::FSGSBASE) || !canonical(value)) return kQuickDeclined;
  q.s.seg[named_segment(q)].base = value;
  return resume(q);
}

DEJA_INLINE u64 swapgs(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0) return kQuickDeclined;
  const u64 base = s.seg[GS].base;
  s.seg[GS].base = s.msr.kernel_gs_base;
  s.msr.kernel_gs_base = base;
  return resume(q);
}

DEJA_INLINE u64 rdtsc(const Quick& q, bool aux) {
  CpuState& s = q.s;
  if (!q.context.quick.tsc_counts_steps || ((s.cr4 & cr4bit::TSD) && s.cpl() != 0)) return kQuickDeclined;
  const u64 steps = q.context.end_step - static_cast<u64>(q.context.remaining() + uncounted(q));
  const u64 tsc = steps + q.context.quick.tsc_offset;
  s.gpr[RAX] = tsc & 0xffffffff;
  s.gpr[RDX] = tsc >> 32;
  if (aux) s.gpr[RCX] = s.msr.tsc_aux & 0xffffffff;
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

DEJA_INLINE SegmentRegister flat(u16 selector, u16 attr, unsigned dpl) {
  SegmentRegister r;
  r.base = 0;
  r.limit = 0xffffffff;
  r.selector = selector;
  r.attr = static_cast<u16>(attr | dpl << 5);
  return r;
}
constexpr u16 kCode64 = 0xa09b, kData = 0xc093;

DEJA_INLINE u64 syscall(const Quick& q) {
  CpuState& s = q.s;
  if (!(s.efer & eferbit::SCE)) return kQuickDeclined;
  s.gpr[RCX] = next_rip(q);
  s.gpr[R11] = s.rflags & ~flag::RF;
  s.rflags = (s.rflags & ~s.msr.fmask) | flag::kReserved1;
  const u16 selector = static_cast<u16>(s.msr.star >> 32) & 0xfffc;
  s.seg[CS] = flat(selector, kCode64, 0);
  s.seg[SS] = flat(static_cast<u16>(selector + 8), kData, 0);
  return leave_to(q, s.msr.lstar);
}

DEJA_INLINE u64 sysret(const Quick& q) {
  CpuState& s = q.s;
  const u64 flags = (s.gpr[R11] & 0x3c7fd7) | flag::kReserved1;
  if (!(s.efer & eferbit::SCE) || s.cpl() != 0 || !canonical(s.gpr[RCX]) || (flags & flag::TF))
    return kQuickDeclined;
  const u16 selector = static_cast<u16>(s.msr.star >> 48);
  s.seg[CS] = flat(static_cast<u16>((selector + 16) | 3), kCode64, 3);
  s.seg[SS] = flat(static_cast<u16>((selector + 8) | 3), kData, 3);
  s.rflags = flags;
  return leave_to(q, s.gpr[RCX]);
}

// A present and accessed descriptor of the GDT; 0 when it is not one, or not in the TLB.
DEJA_INLINE u64 descriptor(const Quick& q, u16 selector) {
  const CpuState& s = q.s;
  const unsigned offset = selector & 0xfff8;
  if ((selector & 4) || offset == 0 || offset + 7 > s.gdtr.limit) return 0;
  const View view = s.cr4 & cr4bit::SMAP ? View::kernel_smap : View::kernel;
  const u8* at = readable(q, view, s.gdtr.base + offset, 8);
  if (!at) return 0;
  constexpr u64 kAccessed = u64{1} << 40, kSegment = u64{1} << 44, kPresent = u64{1} << 47;
  const u64 raw = load64(at);
  return (raw & (kAccessed | kSegment | kPresent)) == (kAccessed | kSegment | kPresent) ? raw : 0;
}

DEJA_INLINE SegmentRegister segment(u16 selector, u64 raw) {
  SegmentRegister r;
  const u32 l = static_cast<u32>(raw & 0xffff) | static_cast<u32>(raw >> 32 & 0xf0000);
  r.base = (raw >> 16 & 0xffffff) | (raw >> 56 & 0xff) << 24;
  r.limit = raw >> 55 & 1 ? l << 12 | 0xfff : l;
  r.selector = selector;
  r.attr = static_cast<u16>(raw >> 40 & 0xf0ff);
  return r;
}

// From CPL 0 in 64-bit mode to 64-bit mode.
DEJA_INLINE u64 iret(const Quick& q) {
  CpuState& s = q.s;
  if (s.cpl() != 0 || (s.rflags & flag::NT) || !plain_data(q)) return kQuickDeclined;
  const u8* frame = readable(q, q.block.mode.view(), s.gpr[RSP], 40);
  if (!frame) return kQuickDeclined;
  const u64 rip = load64(frame), flags = load64(frame + 16), rsp = load64(frame + 24);
  const u16 cs_selector = static_cast<u16>(load64(frame + 8)),
            ss_selector = static_cast<u16>(load64(frame + 32));
  if ((flags & flag::TF) || !canonical(rip)) return kQuickDeclined;
  const unsigned cpl = cs_selector & 3;
  const SegmentRegister cs = segment(cs_selector, descriptor(q, cs_selector));
  // 64-bit code, not conforming.
  if (!cs.present() || (cs.attr & 0x1c) != 0x18 || !cs.long_mode() || cs.big() || cs.dpl() != cpl)
    return kQuickDeclined;
  if ((ss_selector & 3) != cpl) return kQuickDeclined;
  SegmentRegister ss;
  if ((ss_selector & 0xfffc) == 0 && cpl != 3) {
    // As null_stack_segment() says. The kernel runs on it after an interrupt.
    ss = {.base = 0, .limit = 0, .selector = ss_selector, .attr = static_cast<u16>(cpl << 5)};
  } else {
    ss = segment(ss_selector, descriptor(q, ss_selector));
    if (!ss.present() || !ss.writable_data() || ss.dpl() != cpl) return kQuickDeclined;
  }
  constexpr u64 kLoaded = flag::kStatus | flag::TF | flag::DF | flag::NT | flag::RF | flag::AC | flag::ID |
                          flag::IF | flag::IOPL | flag::VIF | flag::VIP;
  s.nmi_blocked = false;
  s.rflags = (s.rflags & ~kLoaded) | (flags & kLoaded) | flag::kReserved1;
  s.seg[CS] = cs;
  s.seg[SS] = ss;
  s.gpr[RSP] = rsp;
  if (cpl != 0)
    for (const Seg r : {ES, DS, FS, GS}) {
      // An outer level must not use what it could not have loaded (SDM vol. 2B "RET").
      SegmentRegister& inner = s.seg[r];
      if ((inner.selector & 0xfffc) && (inner.dpl() >= cpl || inner.conforming_code())) continue;
      inner.selector = 0;
      inner.attr = 0;
    }
  return leave_to(q, rip);
}

// --- memory operands

DEJA_INLINE u64 operand_offset(const Quick& q) {
  const MemOperand& m = q.site.decoded.mem;
  u64 at = static_cast<u64>(m.disp);
  if (m.rip_relative) at += next_rip(q);
  if (m.base >= 0) at += q.s.gpr[m.base];
  if (m.index >= 0) at += q.s.gpr[m.index] * m.scale;
  if (m.segment >= FS) at += q.s.seg[m.segment].base;
  return at;
}

DEJA_INLINE u64 bit(const Quick& q) {
  CpuState& s = q.s;
  const Insn& i = q.site.decoded;
  if (!plain_data(q)) return kQuickDeclined;
  const bool wide = i.operand_size == 8;
  const u64 raw = wide ? s.gpr[i.op[1].reg] : s.gpr[i.op[1].reg] & 0xffffffff;
  const i64 index = wide ? static_cast<i64>(raw) : i64{static_cast<i32>(raw)};
  const u64 linear = operand_offset(q) + static_cast<u64>((index >> (wide ? 6 : 5)) * i.operand_size);
  const u64 mask = u64{1} << (raw & (wide ? 63 : 31));
  const bool writes = i.mnemonic != ZYDIS_MNEMONIC_BT;
  const View view = q.block.mode.view();
  u8* at = writes ? writable(q, view, linear, i.operand_size) : readable(q, view, linear, i.operand_size);
  if (!at) return kQuickDeclined;
  u64 value = 0;
  if (wide)
    value = load64(at);
  else
    __builtin_memcpy(&value, at, 4);
  const bool was = value & mask;
  if (writes) {
    value = i.mnemonic == ZYDIS_MNEMONIC_BTS   ? value | mask
            : i.mnemonic == ZYDIS_MNEMONIC_BTR ? value & ~mask
                                               : value ^ mask;
    if (wide)
      store64(at, value);
    else
      __builtin_memcpy(at, &value, 4);
  }
  s.rflags = (s.rflags & ~flag::CF) | (was ? flag::CF : 0);
  return resume(q);
}

DEJA_INLINE u64 cmpxchg16b(const Quick& q) {
  CpuState& s = q.s;
  const u64 linear = operand_offset(q);
  u8* at = plain_data(q) && linear % 16 == 0 ? writable(q, q.block.mode.view(), linear, 16) : nullptr;
  if (!at) return kQuickDeclined;
  const u64 low = load64(at), high = load64(at + 8);
  if (low == s.gpr[RAX] && high == s.gpr[RDX]) {
    store64(at, s.gpr[RBX]);
    store64(at + 8, s.gpr[RCX]);
    s.rflags |= flag::ZF;
  } else {
    s.gpr[RAX] = low;
    s.gpr[RDX] = high;
    s.rflags &= ~flag::ZF;
  }
  return resume(q);
}

// --- MOVS and STOS, upwards: piece by piece, as execute/string_ops.cc cuts them

template <bool kMoves>
DEJA_INLINE void copy_or_fill(u8* to, const u8* from, u64 value, u64 count, unsigned size) {
  // The host's own, element by element where the operands overlap.
  if constexpr (kMoves) {
    if (size == 8)
      asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    else if (size == 4)
      asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    else if (size == 2)
      asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    else
      asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  } else {
    if (size == 8)
      asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (size == 4)
      asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (size == 2)
      asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else
      asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  }
}

// The bytes of an element, which may lie in two pages; nullptr where the TLB does not have them.
struct ElementParts {
  u8* at[2];
  unsigned bytes[2];
};
DEJA_INLINE bool find_element(const Quick& q, bool write, u64 linear, unsigned size, ElementParts* parts) {
  const View view = q.block.mode.view();
  const unsigned in_page = static_cast<unsigned>(kPageSize - linear % kPageSize);
  const unsigned first = size < in_page ? size : in_page;
  parts->bytes[0] = first;
  parts->bytes[1] = size - first;
  parts->at[0] = cached(q.context, view, write, linear, first);
  parts->at[1] = parts->at[0];
  if (first < size) {
    if (linear + first == 0) return false;  // past the last address
    parts->at[1] = cached(q.context, view, write, linear + first, size - first);
  }
  return parts->at[0] && parts->at[1];
}

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

// How many elements are wholly in the page of the first.
DEJA_INLINE u64 elements_in_page(u64 linear, unsigned size) {
  const u64 bytes = kPageSize - linear % kPageSize;
  return size == 8 ? bytes >> 3 : size == 4 ? bytes >> 2 : size == 2 ? bytes >> 1 : bytes;
}

template <bool kMoves>
DEJA_INLINE u64 string(const Quick& q) {
  CpuState& s = q.s;
  const Insn& i = q.site.decoded;
  if ((s.rflags & flag::DF) || (s.dr7 & 0xff) || !plain_data(q)) return kQuickDeclined;
  const unsigned size = i.opcode & 1 ? i.operand_size : 1;
  const View view = q.block.mode.view();
  const bool repeated = i.rep || i.repne;
  u64 left = repeated ? s.gpr[RCX] : 1;
  // The block's head has counted one step for the instruction; each piece after the first is one more, and
  // begins where the dispatcher would take what waits. The steps of the block's later parts are not to spend.
  const bool waits = s.nmi_pending || ((s.rflags & flag::IF) && q.context.quick.interrupt_pending);
  const i64 steps_left = waits ? 0 : q.context.remaining() - q.block.reserved(q.site.insn);
  i64 further = -1;
  while (left > 0 && further < steps_left) {
    const u64 to = s.gpr[RDI], from = s.gpr[RSI];
    u64 count = elements_in_page(to, size);
    if (kMoves && elements_in_page(from, size) < count) count = elements_in_page(from, size);
    if (count > left) count = left;
    if (count == 0) {
      ElementParts target, source;
      if (!find_element(q, true, to, size, &target)) break;
      u64 value = s.gpr[RAX];
      if constexpr (kMoves) {
        if (!find_element(q, false, from, size, &source)) break;
        copy(reinterpret_cast<u8*>(&value), source.at[0], source.bytes[0]);
        copy(reinterpret_cast<u8*>(&value) + source.bytes[0], source.at[1], source.bytes[1]);
      }
      copy(target.at[0], reinterpret_cast<const u8*>(&value), target.bytes[0]);
      copy(target.at[1], reinterpret_cast<const u8*>(&value) + target.bytes[0], target.bytes[1]);
      count = 1;
    } else {
      const unsigned bytes = static_cast<unsigned>(count) * size;
      u8* const target = writable(q, view, to, bytes);
      const u8* const source = kMoves ? readable(q, view, from, bytes) : nullptr;
      if (!target || (kMoves && !source)) break;
      copy_or_fill<kMoves>(target, source, s.gpr[RAX], count, size);
    }
    s.gpr[RDI] += count * size;
    if constexpr (kMoves) s.gpr[RSI] += count * size;
    if (repeated) s.gpr[RCX] -= count;
    left -= count;
    ++further;
  }
  if (left > 0 && further < 0) return kQuickDeclined;
  if (further > 0) q.context.set_remaining(q.context.remaining() - further);
  if (left == 0) return resume(q);
  // What is left begins anew, as after every piece.
  q.context.set_remaining(q.context.remaining() + uncounted(q) - 1);
  s.rip = next_rip(q) - i.length;
  s.rflags |= flag::RF;
  return kQuickDispatch;
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
      return pushf(q);
    case QuickOp::popf:
      return popf(q);
    case QuickOp::stac:
      return set_ac(q, flag::AC);
    case QuickOp::clac:
      return set_ac(q, 0);
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

// --- operands that cross the end of a page

DEJA_INLINE u64 on_bounce_buffer(ExecContext& context, u32 offset) {
  context.r9 = reinterpret_cast<u64>(context.bounce);
  context.r10 = 0;
  context.vectors_wanted = 0;  // as in resume()
  return context.quick.cache_exec + offset;
}

}  // namespace

[[gnu::flatten]] u64 run_quick_access(ExecContext* context, u64 site_id, u64 address) {
  QuickContext& q = context->quick;
  const MemSite& site = q.store->mem_sites[site_id];
  q.crossing = false;
  if (!q.enabled || site.special < q.first_copy) return kQuickDeclined;
  if (site.checked || site.span || site.align || site.waits_fpu || site.converts) return kQuickDeclined;
  const BlockMode mode = q.store->blocks[site.block].mode;
  const unsigned in_page = static_cast<unsigned>(kPageSize - address % kPageSize);
  const u64 second = address + in_page;
  if (!mode.has(BlockMode::kCode64) || site.size <= in_page || second == 0) return kQuickDeclined;
  const unsigned rest = site.size - in_page;
  u8* const first_part = cached(*context, mode.view(), site.write, address, in_page);
  u8* const second_part = cached(*context, mode.view(), site.write, second, rest);
  if (!first_part || !second_part) return kQuickDeclined;
  if (site.read) {
    copy(context->bounce, first_part, in_page);
    copy(context->bounce + in_page, second_part, rest);
  }
  q.part[0] = first_part;
  q.part[1] = second_part;
  q.part_size[0] = in_page;
  q.part_size[1] = rest;
  q.crossing = true;
  ++q.crossings;
  return on_bounce_buffer(*context, site.special);
}

[[gnu::flatten]] u64 run_quick_commit(ExecContext* context, u64 site_id, u64) {
  QuickContext& q = context->quick;
  if (!q.crossing) return kQuickDeclined;
  q.crossing = false;
  const MemSite& site = q.store->mem_sites[site_id];
  if (site.write) {
    copy(q.part[0], context->bounce, q.part_size[0]);
    copy(q.part[1], context->bounce + q.part_size[0], q.part_size[1]);
  }
  return on_bounce_buffer(*context, site.after == AfterSite::resume_only ? site.special_resume : site.resume);
}

[[gnu::flatten]] u64 run_quick_jump(ExecContext* context, u64, u64 pc) {
  QuickContext& q = context->quick;
  const View view = BlockMode{privilege_mode(context->state)}.view();
  const u64 code = q.enabled ? find_jump(q.tables->view[static_cast<unsigned>(view)], pc) : 0;
  if (!code) return kQuickDeclined;
  ++q.second_jumps;
  context->r9 = pc;
  context->vectors_wanted = view == View::user;
  return code;
}

[[gnu::flatten]] u64 run_quick(ExecContext* context, u64 site_id, u64) {
  const HelperSite& site = context->quick.store->helper_sites[site_id];
  context->arrive();
  const u64 code = run({*context, context->state, site, context->quick.store->blocks[site.block]});
  ++context->quick.calls[code != kQuickDeclined];
  context->depart();
  return code;
}

}  // namespace deja
