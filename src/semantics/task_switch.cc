// Hardware task switching between 32- and 16-bit TSSs (SDM vol. 3A 7.3). Not available in IA-32e mode.
#include "base/log.h"
#include "semantics/segments.h"
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {
namespace {

// Field offsets (SDM vol. 3A figures 7-2 and 7-10).
struct TssLayout {
  unsigned word;  // size of EIP, EFLAGS and the general registers
  unsigned cr3;   // 0: none
  unsigned rip, flags, gpr, seg, seg_stride, seg_count, ldt, size;
};
constexpr TssLayout kTss32{4, 28, 32, 36, 40, 72, 4, 6, 96, 104};
constexpr TssLayout kTss16{2, 0, 14, 16, 18, 34, 2, 4, 42, 44};

const TssLayout& layout(unsigned type) { return type & 8 ? kTss32 : kTss16; }

void set_busy(Vcpu& cpu, SystemGva descriptor, bool busy) {
  const SystemGva access = descriptor + 5;
  const u8 byte = cpu.mmu.read<u8>(access);
  cpu.mmu.write<u8>(access, static_cast<u8>(busy ? byte | 2 : byte & ~2));
}

// Saves registers, EIP and flags into the image of the current TSS.
void save_task(const CpuState& s, const TssLayout& l, u64 rip, u64 flags, u8* image) {
  std::memcpy(image + l.rip, &rip, l.word);
  std::memcpy(image + l.flags, &flags, l.word);
  for (unsigned i = 0; i < 8; ++i) std::memcpy(image + l.gpr + i * l.word, &s.gpr[i], l.word);
  for (unsigned i = 0; i < l.seg_count; ++i)
    std::memcpy(image + l.seg + i * l.seg_stride, &s.seg[i].selector, 2);
}

u64 field(const u8* image, unsigned offset, unsigned size) {
  u64 value = 0;
  std::memcpy(&value, image + offset, size);
  return value;
}

// Loads LDTR and the segment registers of the new task from their selectors; #TS when they are unfit.
void load_task_segments(Vcpu& cpu, const u16 (&selector)[6]) {
  CpuState& s = cpu.state;
  const u16 ldt = s.ldtr.selector;
  if (!null_selector(ldt)) {
    if (ldt & 4) throw selector_fault(kTS, ldt);
    const Descriptor d = read_descriptor(cpu, ldt, kTS);
    if (!d.system() || d.type() != kLdt || !d.present()) throw selector_fault(kTS, ldt);
    s.ldtr = make_segment(ldt, d);
  }
  if (s.v8086()) {
    for (const Seg seg : {ES, CS, SS, DS, FS, GS}) s.seg[seg] = v8086_segment(selector[seg]);
    return;
  }
  const unsigned cpl = selector[CS] & 3;
  if (null_selector(selector[CS])) throw fault_ts(0);
  Descriptor code = read_descriptor(cpu, selector[CS], kTS);
  if (!code.code() || (code.conforming_code() ? code.dpl() > cpl : code.dpl() != cpl))
    throw selector_fault(kTS, selector[CS]);
  if (!code.present()) throw selector_fault(kNP, selector[CS]);
  mark_accessed(cpu, &code);
  s.seg[CS] = make_segment(selector[CS], code);
  if (null_selector(selector[SS])) throw fault_ts(0);
  s.seg[SS] = read_stack_segment(cpu, selector[SS], cpl, kTS);
  for (const Seg seg : {ES, DS, FS, GS}) {
    try {
      load_segment(cpu, seg, selector[seg]);
    } catch (const GuestFault& fault) {
      if (fault.vector == kGP) throw fault_ts(fault.error);
      throw;
    }
  }
}

}  // namespace

u16 task_link(Vcpu& cpu) { return cpu.mmu.read<u16>(SystemGva(cpu.state.tr.base)); }

void switch_task(Vcpu& cpu, u16 selector, TaskSwitchSource source, u64 return_rip, bool has_error,
                 u32 error) {
  CpuState& s = cpu.state;
  const bool returning = source == TaskSwitchSource::iret;
  const bool nested = source == TaskSwitchSource::call || source == TaskSwitchSource::interrupt;
  const u32 ext = source == TaskSwitchSource::interrupt ? 1 : 0;
  const u8 bad = returning ? kTS : kGP;

  // Everything that can fault before the switch, faults in the old task.
  if (null_selector(selector) || selector & 4) throw selector_fault(bad, selector, ext);
  Descriptor d = read_descriptor(cpu, selector, bad, ext);
  const unsigned wanted = returning ? 2 : 0;  // busy
  if (!d.system() || (d.type() & 7) != (1 | wanted)) throw selector_fault(bad, selector, ext);
  if (!d.present()) throw selector_fault(kNP, selector, ext);
  const TssLayout& to = layout(d.type());
  const TssLayout& from = layout(s.tr.type());
  if (d.limit() < to.size - 1) throw selector_fault(kTS, selector, ext);
  if (!s.tr.present() || s.tr.limit < from.size - 1) throw selector_fault(kTS, s.tr.selector, ext);
  const SystemGva old_tss(s.tr.base), new_tss(d.base());
  const SystemGva old_descriptor(s.gdtr.base + (s.tr.selector & 0xfff8));
  u8 old_image[104], image[104];
  cpu.mmu.read_bytes(old_tss, old_image, from.size);
  cpu.mmu.read_bytes(new_tss, image, to.size);
  cpu.mmu.probe(old_tss, from.size, Access::write);
  if (nested) cpu.mmu.probe(new_tss, 2, Access::write);
  cpu.mmu.probe(d.address + 5, 1, Access::write);
  cpu.mmu.probe(old_descriptor + 5, 1, Access::write);

  const u64 old_flags = returning ? s.rflags & ~flag::NT : s.rflags;
  save_task(s, from, return_rip, old_flags, old_image);
  cpu.mmu.write_bytes(old_tss, old_image, from.size);
  if (!nested) set_busy(cpu, old_descriptor, false);
  if (nested) cpu.mmu.write<u16>(new_tss, s.tr.selector);
  if (!returning) set_busy(cpu, d.address, true);

  // From here on the new task is current, and faults are its own.
  d.raw |= u64{2} << 40;
  s.tr = make_segment(selector, d);
  s.cr0 |= cr0bit::TS;
  s.dr7 &= ~u64{0x155};  // the local breakpoint enables
  if (to.cr3 && (s.cr0 & cr0bit::PG)) {
    s.cr3 = field(image, to.cr3, 4);
    if (s.cr4 & cr4bit::PAE) {
      u64 pdptes[4];
      if (cpu.mmu.read_physical(Gpa(s.cr3 & 0xffffffe0), pdptes, sizeof pdptes))
        std::memcpy(s.pdpte, pdptes, sizeof pdptes);
      else
        log_info("guest", "task switch: PDPTEs at {:x} are not in RAM", s.cr3);
    }
    cpu.mmu.paging_changed();
  }
  const u64 filler = to.word == 2 ? 0xffff0000 : 0;  // upper halves after a 16-bit TSS
  for (unsigned i = 0; i < 8; ++i) s.gpr[i] = field(image, to.gpr + i * to.word, to.word) | filler;
  s.rflags = (field(image, to.flags, to.word) & kFlagsMask) | flag::kReserved1 | (nested ? flag::NT : 0);
  s.rip = cpu.next_rip = field(image, to.rip, to.word);
  u16 selectors[6] = {};
  for (unsigned i = 0; i < to.seg_count; ++i)
    selectors[i] = static_cast<u16>(field(image, to.seg + i * to.seg_stride, 2));
  for (unsigned i = 0; i < 6; ++i) s.seg[i] = SegmentRegister{.selector = selectors[i]};
  // The privilege level is that of the new CS even while SS is not loaded yet.
  s.seg[SS].attr = static_cast<u16>((selectors[CS] & 3) << 5);
  s.ldtr = SegmentRegister{.selector = static_cast<u16>(field(image, to.ldt, 2))};

  load_task_segments(cpu, selectors);
  if (has_error) push_value(cpu, error, to.word);
  check_branch_target(cpu, s.seg[CS], s.rip);
  constexpr u64 kTaskSwitchTrap = 1 << 15;  // DR6.BT
  if (to.word == 4 && (image[100] & 1)) s.pending_dbg |= kTaskSwitchTrap;
}

}  // namespace deja
