#include "semantics/segments.h"

#include "base/log.h"

namespace deja {

GuestFault selector_fault(u8 vector, u16 selector, u32 ext) {
  return {vector, true, (selector & 0xfffcu) | ext};
}

namespace {

bool locate_descriptor(const CpuState& s, u16 selector, unsigned bytes, SystemGva* address) {
  const unsigned offset = selector & 0xfff8;
  if (selector & kTableIndicator) {
    if (!s.ldtr.present() || u64{offset} + bytes - 1 > s.ldtr.limit) return false;
    *address = SystemGva(s.ldtr.base + offset);
  } else {
    if (offset + bytes - 1 > s.gdtr.limit) return false;
    *address = SystemGva(s.gdtr.base + offset);
  }
  return true;
}

}  // namespace

bool find_descriptor(Vcpu& cpu, u16 selector, Descriptor* out) {
  SystemGva address;
  if (!locate_descriptor(cpu.state, selector, 8, &address)) return false;
  *out = Descriptor{address, cpu.mmu.read<u64>(address)};
  return true;
}

Descriptor read_descriptor(Vcpu& cpu, u16 selector, u8 vector, u32 ext) {
  Descriptor d;
  if (!find_descriptor(cpu, selector, &d)) throw selector_fault(vector, selector, ext);
  return d;
}

void read_descriptor_high(Vcpu& cpu, u16 selector, Descriptor* d, u8 vector) {
  SystemGva address;
  if (!locate_descriptor(cpu.state, selector, 16, &address)) throw selector_fault(vector, selector);
  d->high = cpu.mmu.read<u64>(address + 8);
}

void mark_accessed(Vcpu& cpu, Descriptor* d) {
  if (d->accessed()) return;
  d->raw |= u64{1} << 40;
  cpu.mmu.write<u8>(d->address + 5, static_cast<u8>(d->raw >> 40));
}

void set_real_mode_segment(SegmentRegister* s, u16 selector) {
  s->selector = selector;
  s->base = u64{selector} << 4;
}

SegmentRegister v8086_segment(u16 selector) {
  return {.base = u64{selector} << 4, .limit = 0xffff, .selector = selector, .attr = 0xf3};
}

namespace {

void load_null_selector(Vcpu& cpu, Seg seg, u16 selector) {
  CpuState& s = cpu.state;
  if (seg == SS) {
    if (!s.mode64() || s.cpl() == 3 || (selector & 3) != s.cpl()) throw fault_gp();
    s.seg[SS] = null_stack_segment(selector, s.cpl());
    return;
  }
  // Intel processors clear the base of FS and GS too.
  s.seg[seg] = SegmentRegister{.selector = selector};
}

}  // namespace

void load_segment(Vcpu& cpu, Seg seg, u16 selector) {
  CpuState& s = cpu.state;
  if (!s.protected_mode()) return set_real_mode_segment(&s.seg[seg], selector);
  if (s.v8086()) {
    s.seg[seg] = v8086_segment(selector);
    return;
  }
  if (null_selector(selector)) return load_null_selector(cpu, seg, selector);

  if (seg == SS) {
    if ((selector & 3) != s.cpl()) throw selector_fault(kGP, selector);
    s.seg[SS] = read_stack_segment(cpu, selector, s.cpl(), kGP);
    return;
  }
  Descriptor d = read_descriptor(cpu, selector, kGP);
  if (!d.readable()) throw selector_fault(kGP, selector);
  const unsigned rpl = selector & 3;
  if (!d.conforming_code() && (rpl > d.dpl() || s.cpl() > d.dpl())) throw selector_fault(kGP, selector);
  if (!d.present()) throw selector_fault(kNP, selector);
  mark_accessed(cpu, &d);
  s.seg[seg] = make_segment(selector, d);
}

SegmentRegister read_stack_segment(Vcpu& cpu, u16 selector, unsigned cpl, u8 vector, u32 ext) {
  Descriptor d = read_descriptor(cpu, selector, vector, ext);
  const u8 fault = stack_segment_fault(selector, cpl, d, vector);
  if (fault != kNoVector) throw selector_fault(fault, selector, ext);
  mark_accessed(cpu, &d);
  return make_segment(selector, d);
}

bool within_limit(const SegmentRegister& s, u64 offset, unsigned size) {
  const u64 last = offset + size - 1;
  if (s.expand_down()) return offset > s.limit && last <= (s.big() ? 0xffffffffu : 0xffffu);
  // A limit of 4 GiB is none, as for accesses that translated code does not check: what reaches beyond goes
  // on at 0. SDM vol. 3A 5.3 leaves it open.
  return last <= s.limit || s.limit == 0xffffffff;
}

void check_branch_target(const Vcpu& cpu, const SegmentRegister& cs, u64 rip, u32 ext) {
  if (cpu.state.long_mode_active() && cs.long_mode()) {
    if (!is_canonical(cpu.state, rip)) throw fault_gp(ext);
  } else if (rip > cs.limit) {
    throw fault_gp(ext);
  }
}

TssStack read_tss_stack(Vcpu& cpu, unsigned cpl, unsigned ist, u32 ext) {
  const SegmentRegister& tr = cpu.state.tr;
  const auto read = [&](unsigned offset, unsigned size) {
    if (offset + size - 1 > tr.limit) throw selector_fault(kTS, tr.selector, ext);
    u64 value = 0;
    cpu.mmu.read_bytes(SystemGva(tr.base + offset), &value, size);
    return value;
  };
  // Layouts: SDM vol. 3A figures 7-2 (32-bit), 7-10 (16-bit), 7-11 (64-bit).
  if (cpu.state.long_mode_active()) return {0, read(ist ? 28 + ist * 8 : 4 + cpl * 8, 8)};
  if (tr.type() & 8) {
    const u64 esp = read(4 + cpl * 8, 4);
    return {static_cast<u16>(read(8 + cpl * 8, 2)), esp};
  }
  const u64 sp = read(2 + cpl * 4, 2);
  return {static_cast<u16>(read(4 + cpl * 4, 2)), sp};
}

void check_io_permission(Vcpu& cpu, u16 port, unsigned size) {
  const CpuState& s = cpu.state;
  if (!s.protected_mode()) return;
  const unsigned iopl = (s.rflags & flag::IOPL) >> 12;
  if (!s.v8086() && s.cpl() <= iopl) return;
  // The map's base is the word at 102 of a 32- or 64-bit TSS. The processor always reads two bytes of the
  // map.
  const SegmentRegister& tr = s.tr;
  if (!tr.present() || !(tr.type() & 8) || tr.limit < 103) throw fault_gp();
  const u32 map = cpu.mmu.read<u16>(SystemGva(tr.base + 102));
  const u32 offset = map + port / 8;
  if (offset + 1 > tr.limit) throw fault_gp();
  const u16 bits = cpu.mmu.read<u16>(SystemGva(tr.base + offset));
  if (bits >> (port % 8) & ((1u << size) - 1)) throw fault_gp();
}

namespace {

// The fields of DR7 for breakpoint register `i` (SDM vol. 3B 17.2.4).
struct BreakpointControl {
  bool enabled;  // L or G
  unsigned access;
  unsigned bytes;
};
BreakpointControl breakpoint_control(const CpuState& s, unsigned i) {
  const unsigned length = s.dr7 >> (18 + 4 * i) & 3;
  return {(s.dr7 >> (2 * i) & 3) != 0, static_cast<unsigned>(s.dr7 >> (16 + 4 * i) & 3),
          length == 2 ? 8 : length + 1};
}

}  // namespace

bool data_breakpoints_armed(const CpuState& s) {
  if (!(s.dr7 & 0xff)) return false;
  for (unsigned i = 0; i < 4; ++i) {
    const BreakpointControl c = breakpoint_control(s, i);
    if (c.enabled && (c.access & 1)) return true;
  }
  return false;
}

void note_io_breakpoints(CpuState& s, u16 port, unsigned size) {
  if (!(s.dr7 & 0xff) || !(s.cr4 & cr4bit::DE)) return;
  for (unsigned i = 0; i < 4; ++i) {
    const BreakpointControl c = breakpoint_control(s, i);
    if (!c.enabled || c.access != 2) continue;
    const u64 from = s.dr[i] & ~u64{c.bytes - 1};
    if (port < from + c.bytes && from < u64{port} + size) s.pending_dbg |= u64{1} << i;
  }
}

}  // namespace deja
