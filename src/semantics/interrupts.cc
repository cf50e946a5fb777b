// Delivery of exceptions and interrupts (SDM vol. 3A chapter 6; vol. 2A "INT n" has the pseudo-code followed
// here).
#include "base/log.h"
#include "semantics/segments.h"
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {
namespace {

// Exceptions that report before the instruction completes; their pushed RFLAGS has RF set so that an
// instruction breakpoint does not hit again (SDM vol. 3B 18.3.1.1). #DB itself is excepted.
bool is_fault_class(u8 vector) {
  switch (vector) {
    case kDE:
    case kBR:
    case kUD:
    case kNM:
    case kDF:
    case kTS:
    case kNP:
    case kSS:
    case kGP:
    case kPF:
    case kMF:
    case kAC:
    case kXM:
      return true;
    default:
      return false;
  }
}

bool is_contributory(u8 vector) { return vector == kDE || (vector >= kTS && vector <= kGP); }

u64 pushed_flags(const CpuState& s, EventKind kind, u8 vector) {
  return kind == EventKind::fault && is_fault_class(vector) ? s.rflags | flag::RF : s.rflags;
}

void deliver_real_mode(Vcpu& cpu, u8 vector, u64 return_rip) {
  CpuState& s = cpu.state;
  if (vector * 4u + 3 > s.idtr.limit) throw fault_gp();
  const u32 entry = cpu.mmu.read<u32>(SystemGva(s.idtr.base + vector * 4u));
  StackWriter stack(cpu);
  stack.push(s.rflags & 0xffff, 2);
  stack.push(s.seg[CS].selector, 2);
  stack.push(return_rip & 0xffff, 2);
  const u64 offset = entry & 0xffff;
  if (offset > s.seg[CS].limit) throw fault_gp();
  stack.commit();
  set_stack_pointer(s, stack_width(s), stack.rsp());
  set_real_mode_segment(&s.seg[CS], static_cast<u16>(entry >> 16));
  s.rflags &= ~(flag::IF | flag::TF | flag::AC | flag::RF);
  s.rip = offset;
}

// The handler's code segment, named by a gate. Sets *cpl to the level at which the handler runs.
SegmentRegister read_handler_segment(Vcpu& cpu, u16 selector, u32 ext, unsigned* cpl) {
  const CpuState& s = cpu.state;
  if (null_selector(selector)) throw fault_gp(ext);
  Descriptor d = read_descriptor(cpu, selector, kGP, ext);
  if (!d.code() || d.dpl() > s.cpl()) throw selector_fault(kGP, selector, ext);
  if (s.long_mode_active() && (!d.long_mode() || d.big())) throw selector_fault(kGP, selector, ext);
  if (s.v8086() && (d.conforming_code() || d.dpl() != 0)) throw selector_fault(kGP, selector, ext);
  if (!d.present()) throw selector_fault(kNP, selector, ext);
  mark_accessed(cpu, &d);
  *cpl = d.conforming_code() ? s.cpl() : d.dpl();
  return make_segment(static_cast<u16>((selector & ~3) | *cpl), d);
}

void deliver_protected_mode(Vcpu& cpu, EventKind kind, const GuestFault& event, u64 return_rip) {
  CpuState& s = cpu.state;
  const bool long_mode = s.long_mode_active();
  const bool software = kind == EventKind::software_interrupt || kind == EventKind::software_exception;
  const u32 ext = software ? 0 : 1;
  const u32 idt_error = event.vector * 8u + 2 + ext;

  const unsigned gate_size = long_mode ? 16 : 8;
  if (event.vector * gate_size + gate_size - 1 > s.idtr.limit) throw fault_gp(idt_error);
  Descriptor gate{SystemGva(s.idtr.base + event.vector * gate_size)};
  gate.raw = cpu.mmu.read<u64>(gate.address);
  if (long_mode) gate.high = cpu.mmu.read<u64>(gate.address + 8);

  const unsigned type = gate.type();
  const bool wide_gate = type == kInterruptGate || type == kTrapGate;
  const bool narrow_gate = type == kInterruptGate16 || type == kTrapGate16;
  if (!gate.system() || !(wide_gate || (!long_mode && (narrow_gate || type == kTaskGate))))
    throw fault_gp(idt_error);
  if (software && gate.dpl() < s.cpl()) throw fault_gp(idt_error);
  if (!gate.present()) throw GuestFault{kNP, true, idt_error};
  if (type == kTaskGate) {
    const bool has_error = kind == EventKind::fault && event.has_error;
    return switch_task(cpu, gate.gate_selector(), TaskSwitchSource::interrupt, return_rip, has_error,
                       event.error);
  }

  unsigned cpl = 0;
  const SegmentRegister cs = read_handler_segment(cpu, gate.gate_selector(), ext, &cpl);
  const u64 target = long_mode   ? gate.gate_offset64()
                     : wide_gate ? gate.gate_offset()
                                 : gate.gate_offset() & 0xffff;
  const unsigned ist = long_mode ? gate.raw >> 32 & 7 : 0;
  const bool inner = cpl != s.cpl();

  // The new stack.
  SegmentRegister ss = s.seg[SS];
  u64 rsp = s.gpr[RSP];
  u32 stack_error = ext;
  if (inner || ist) {
    const TssStack tss = read_tss_stack(cpu, cpl, ist, ext);
    rsp = tss.rsp;
    if (!long_mode) {
      if (null_selector(tss.ss)) throw fault_ts(ext);
      ss = read_stack_segment(cpu, tss.ss, cpl, kTS, ext);
      stack_error = (tss.ss & 0xfffcu) | ext;
    } else if (inner) {
      ss = null_stack_segment(static_cast<u16>(cpl), cpl);
    }
  }
  if (long_mode) rsp &= ~u64{15};
  const unsigned width = long_mode ? 8 : ss.big() ? 4 : 2;
  const unsigned size = long_mode ? 8 : wide_gate ? 4 : 2;

  StackWriter stack(cpu, ss, rsp, width, cpl == 3 ? Rights::user : Rights::supervisor, stack_error);
  if (s.v8086())
    for (const Seg seg : {GS, FS, DS, ES}) stack.push(s.seg[seg].selector, size);
  if (inner || long_mode) {
    stack.push(s.seg[SS].selector, size);
    stack.push(s.gpr[RSP], size);
  }
  stack.push(pushed_flags(s, kind, event.vector), size);
  stack.push(s.seg[CS].selector, size);
  stack.push(return_rip, size);
  if (kind == EventKind::fault && event.has_error) stack.push(event.error, size);
  check_branch_target(cpu, cs, target, ext);
  stack.commit();

  if (s.v8086())
    for (const Seg seg : {GS, FS, DS, ES}) s.seg[seg] = SegmentRegister{};
  s.seg[CS] = cs;
  s.seg[SS] = ss;
  s.gpr[RSP] = rsp;
  set_stack_pointer(s, width, stack.rsp());
  s.rflags &= ~(flag::TF | flag::NT | flag::RF | flag::VM);
  if (type == kInterruptGate || type == kInterruptGate16) s.rflags &= ~flag::IF;
  s.rip = target;
}

// What an event does to the state even if its delivery fails.
void note_event(CpuState& s, EventKind kind, const GuestFault& event) {
  if (kind == EventKind::nmi) s.nmi_blocked = true;
  if (kind != EventKind::fault) return;
  if (event.vector == kPF) s.cr2 = event.cr2;
  if (event.vector == kDB) {
    constexpr u64 kBreakpointBits = 15;
    s.dr6 = (s.dr6 & ~kBreakpointBits) | event.dr6;
    note_debug_exception(s);
  }
}

}  // namespace

void note_debug_exception(CpuState& s) {
  constexpr u64 kGeneralDetect = 1 << 13, kBranchRecords = 1, kBranchTrap = 2;
  s.dr7 &= ~kGeneralDetect;
  s.msr.debugctl &= ~(kBranchRecords | kBranchTrap);
}

void deliver_through_idt(Vcpu& cpu, EventKind kind, const GuestFault& event, u64 return_rip) {
  if (cpu.state.protected_mode())
    deliver_protected_mode(cpu, kind, event, return_rip);
  else
    deliver_real_mode(cpu, event.vector, return_rip);
}

void deliver_event(Vcpu& cpu, EventKind kind, const GuestFault& event) {
  CpuState& s = cpu.state;
  s.sti_shadow = s.mov_ss_shadow = false;
  s.activity = Activity::running;
  GuestFault current = event;
  for (;;) {
    note_event(s, kind, current);
    try {
      return deliver_through_idt(cpu, kind, current, s.rip);
    } catch (const GuestFault& second) {
      // SDM vol. 3A tables 6-4 and 6-5.
      const bool exception = kind == EventKind::fault;
      if (second.vector == kPF) s.cr2 = second.cr2;
      if (exception && current.vector == kDF) {
        log_info("guest", "vCPU {}: triple fault at {:04x}:{:x} (#{} while delivering #DF)", s.index,
                 s.seg[CS].selector, s.rip, second.vector);
        s.activity = Activity::shutdown;
        return;
      }
      const bool contributory = exception && is_contributory(current.vector);
      const bool page_fault = exception && current.vector == kPF;
      if ((contributory && is_contributory(second.vector)) ||
          (page_fault && (is_contributory(second.vector) || second.vector == kPF))) {
        log_info("guest", "vCPU {}: double fault at {:04x}:{:x} (#{} while delivering #{})", s.index,
                 s.seg[CS].selector, s.rip, second.vector, current.vector);
        current = GuestFault{kDF, true, 0};
      } else {
        current = second;
      }
      kind = EventKind::fault;
    }
  }
}

}  // namespace deja
