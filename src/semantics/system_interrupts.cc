// INT n, INT1, INT3, INTO and IRET (SDM vol. 2A).
#include "base/log.h"
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {
namespace {

// A fault of the delivery is one of the instruction itself: state.rip still points to it.
void software_interrupt(Vcpu& cpu, EventKind kind, u8 vector) {
  deliver_through_idt(cpu, kind, GuestFault{vector}, cpu.next_rip);
  cpu.next_rip = cpu.state.rip;
}

void int_n(Vcpu& cpu, const Insn& insn) {
  if (cpu.state.v8086() && iopl(cpu.state) < 3) throw fault_gp();
  software_interrupt(cpu, EventKind::software_interrupt, static_cast<u8>(insn.imm));
}

// A debug exception without a bit in DR6. It takes the place of what MOV SS before it has left pending, which
// INT n, INT3 and INTO leave to the first instruction of the handler (SDM vol. 3C "Delivery of Pending Debug
// Exceptions after VM Entry": nothing is pending after a privileged software exception). What the pushes of
// the delivery meet comes after it.
void int1(Vcpu& cpu, const Insn&) {
  cpu.state.pending_dbg = 0;
  software_interrupt(cpu, EventKind::privileged_software_exception, kDB);
  note_debug_exception(cpu.state);
}

void int3(Vcpu& cpu, const Insn&) { software_interrupt(cpu, EventKind::software_exception, kBP); }

void into(Vcpu& cpu, const Insn&) {
  if (cpu.state.rflags & flag::OF) software_interrupt(cpu, EventKind::software_exception, kOF);
}

void iret_real_or_v8086(Vcpu& cpu, unsigned size) {
  CpuState& s = cpu.state;
  if (s.v8086() && iopl(s) < 3) throw fault_gp();
  StackReader stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  const u64 flags = stack.pop(size);
  if (rip > s.seg[CS].limit) throw fault_gp();
  stack.commit();
  u64 mask = flag::kStatus | flag::TF | flag::IF | flag::DF | flag::NT;
  if (!s.v8086()) mask |= flag::IOPL;
  if (size == 4) mask |= flag::RF | flag::AC | flag::ID;
  if (s.v8086())
    s.seg[CS] = v8086_segment(selector);
  else
    set_real_mode_segment(&s.seg[CS], selector);
  load_flags(s, flags, mask);
  cpu.next_rip = rip;
}

void iret_to_v8086(Vcpu& cpu, StackReader& stack, u64 rip, u16 cs, u64 flags) {
  CpuState& s = cpu.state;
  const u64 rsp = stack.pop(4);
  u16 selector[6];
  for (const Seg seg : {SS, ES, DS, FS, GS}) selector[seg] = static_cast<u16>(stack.pop(4));
  selector[CS] = cs;
  if (rip > 0xffff) throw fault_gp();
  for (const Seg seg : {ES, CS, SS, DS, FS, GS}) s.seg[seg] = v8086_segment(selector[seg]);
  s.gpr[RSP] = rsp;
  load_flags(s, flags, kFlagsMask);
  cpu.next_rip = rip;
}

// The code segment that IRET returns to.
SegmentRegister read_return_segment(Vcpu& cpu, u16 selector) {
  const CpuState& s = cpu.state;
  if (null_selector(selector)) throw fault_gp();
  Descriptor d = read_descriptor(cpu, selector, kGP);
  const u8 fault = return_segment_fault(s, selector, d);
  if (fault != kNoVector) throw selector_fault(fault, selector);
  mark_accessed(cpu, &d);
  return make_segment(selector, d);
}

void iret(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const unsigned size = insn.operand_size;
  // IRET ends NMI blocking even if it faults (SDM vol. 3C 26.3).
  s.nmi_blocked = false;
  if (!s.protected_mode() || s.v8086()) return iret_real_or_v8086(cpu, size);
  if (s.rflags & flag::NT) {
    if (s.long_mode_active()) throw fault_gp();
    return switch_task(cpu, task_link(cpu), TaskSwitchSource::iret, cpu.next_rip);
  }
  StackReader stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  const u64 flags = stack.pop(size);
  if (size == 4 && (flags & flag::VM) && s.cpl() == 0 && !s.long_mode_active())
    return iret_to_v8086(cpu, stack, rip, selector, flags);

  const SegmentRegister cs = read_return_segment(cpu, selector);
  const unsigned cpl = selector & 3;
  const bool outer = cpl != s.cpl();
  if (!outer && !s.mode64()) {
    check_branch_target(cpu, cs, rip);
    stack.commit();
    load_flags(s, flags, iret_mask(s, cpl, size));
    s.seg[CS] = cs;
    cpu.next_rip = rip;
    return;
  }

  const u64 rsp = stack.pop(size);
  const u16 ss_selector = static_cast<u16>(stack.pop(size));
  SegmentRegister ss;
  if (null_selector(ss_selector)) {
    const bool to_64bit = s.long_mode_active() && cs.long_mode();
    if (!null_stack_allowed(ss_selector, cpl, to_64bit)) throw fault_gp();
    ss = null_stack_segment(ss_selector, cpl);
  } else {
    ss = read_stack_segment(cpu, ss_selector, cpl, kGP);
  }
  check_branch_target(cpu, cs, rip);
  return_from_interrupt(s, cs, ss, flags, size);
  // A 16-bit return stack takes SP only; the rest of RSP stays (the leak that Linux calls espfix).
  set_stack_pointer(s, s.mode64() ? 8 : ss.big() ? 4 : 2, rsp);
  cpu.next_rip = rip;
}

}  // namespace

Helper find_interrupt_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    // They clear TF, and so do not trap.
    case ZYDIS_MNEMONIC_INT:
      return {int_n, kTrapsByNewFlags};
    case ZYDIS_MNEMONIC_INT1:
      return {int1, kTrapsByNewFlags};
    case ZYDIS_MNEMONIC_INT3:
      return {int3, kTrapsByNewFlags};
    case ZYDIS_MNEMONIC_INTO:
      return {into, kTrapsByNewFlags};
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
      return iret;
    default:
      return nullptr;
  }
}

}  // namespace deja
