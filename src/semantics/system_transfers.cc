// Far JMP, CALL and RET: direct, through call gates and to other tasks (SDM vol. 2A "CALL", "JMP", vol. 2B
// "RET", vol. 3A 5.8).
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {
namespace {

struct FarPointer {
  u16 selector = 0;
  u64 offset = 0;
};

FarPointer read_far_operand(Vcpu& cpu, const Insn& insn) {
  const unsigned size = insn.operand_size;
  if (!insn.has_mem) {
    const u64 offset = static_cast<u64>(insn.imm);
    return {static_cast<u16>(insn.imm2), size == 2 ? static_cast<u16>(offset) : static_cast<u32>(offset)};
  }
  const Gva address = operand_address(cpu, insn, size + 2, Access::read);
  u8 bytes[10];
  cpu.mmu.read_bytes(address, bytes, size + 2);
  FarPointer p;
  std::memcpy(&p.offset, bytes, size);
  std::memcpy(&p.selector, bytes + size, 2);
  return p;
}

// Code segment of a direct far JMP or CALL: runs at the current level.
SegmentRegister direct_code_segment(Vcpu& cpu, u16 selector, Descriptor d) {
  const CpuState& s = cpu.state;
  const unsigned cpl = s.cpl();
  const bool allowed = d.conforming_code() ? d.dpl() <= cpl : (selector & 3u) <= cpl && d.dpl() == cpl;
  if (!allowed) throw selector_fault(kGP, selector);
  if (s.long_mode_active() && d.long_mode() && d.big()) throw selector_fault(kGP, selector);
  if (!d.present()) throw selector_fault(kNP, selector);
  mark_accessed(cpu, &d);
  return make_segment(static_cast<u16>((selector & ~3) | cpl), d);
}

void enter_code_segment(Vcpu& cpu, const SegmentRegister& cs, u64 rip) {
  cpu.state.seg[CS] = cs;
  cpu.next_rip = rip;
}

// A call gate, with the checks on the gate itself.
Descriptor read_call_gate(Vcpu& cpu, u16 selector, Descriptor gate) {
  if (gate.dpl() < cpu.state.cpl() || gate.dpl() < (selector & 3u)) throw selector_fault(kGP, selector);
  if (!gate.present()) throw selector_fault(kNP, selector);
  if (cpu.state.long_mode_active()) {
    read_descriptor_high(cpu, selector, &gate, kGP);
    if (gate.high >> 40 & 0x1f) throw selector_fault(kGP, selector);
  }
  return gate;
}

// The code segment that a call gate names.
Descriptor read_gate_target(Vcpu& cpu, u16 selector) {
  const CpuState& s = cpu.state;
  if (null_selector(selector)) throw fault_gp();
  const Descriptor d = read_descriptor(cpu, selector, kGP);
  if (!d.code() || d.dpl() > s.cpl()) throw selector_fault(kGP, selector);
  if (s.long_mode_active() && (!d.long_mode() || d.big())) throw selector_fault(kGP, selector);
  if (!d.present()) throw selector_fault(kNP, selector);
  return d;
}

u64 gate_target_offset(const Descriptor& gate, bool long_mode) {
  if (long_mode) return gate.gate_offset64();
  return gate.type() == kCallGate16 ? gate.gate_offset() & 0xffff : gate.gate_offset();
}

// Is it a TSS or task gate that the mode allows as a far target? Then switches tasks.
bool transfer_to_task(Vcpu& cpu, u16 selector, const Descriptor& d, TaskSwitchSource source) {
  const unsigned type = d.type();
  if (!d.system() || cpu.state.long_mode_active()) return false;
  if (type != kTaskGate && type != kTssAvailable && type != kTss16Available) return false;
  if (d.dpl() < cpu.state.cpl() || d.dpl() < (selector & 3u)) throw selector_fault(kGP, selector);
  if (!d.present()) throw selector_fault(kNP, selector);
  switch_task(cpu, type == kTaskGate ? d.gate_selector() : selector, source, cpu.next_rip);
  return true;
}

bool is_call_gate(const CpuState& s, const Descriptor& d) {
  return d.system() && (d.type() == kCallGate || (d.type() == kCallGate16 && !s.long_mode_active()));
}

void far_jump(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const FarPointer target = read_far_operand(cpu, insn);
  if (!s.protected_mode() || s.v8086()) {
    if (target.offset > s.seg[CS].limit) throw fault_gp();
    if (s.v8086())
      s.seg[CS] = v8086_segment(target.selector);
    else
      set_real_mode_segment(&s.seg[CS], target.selector);
    cpu.next_rip = target.offset;
    return;
  }
  if (null_selector(target.selector)) throw fault_gp();
  const Descriptor d = read_descriptor(cpu, target.selector, kGP);
  if (d.code()) {
    const SegmentRegister cs = direct_code_segment(cpu, target.selector, d);
    check_branch_target(cpu, cs, target.offset);
    return enter_code_segment(cpu, cs, target.offset);
  }
  if (transfer_to_task(cpu, target.selector, d, TaskSwitchSource::jump)) return;
  if (!is_call_gate(s, d)) throw selector_fault(kGP, target.selector);

  const Descriptor gate = read_call_gate(cpu, target.selector, d);
  Descriptor code = read_gate_target(cpu, gate.gate_selector());
  // A jump keeps the privilege level.
  if (!code.conforming_code() && code.dpl() != s.cpl()) throw selector_fault(kGP, gate.gate_selector());
  const SegmentRegister cs = make_segment(static_cast<u16>((gate.gate_selector() & ~3) | s.cpl()), code);
  const u64 rip = gate_target_offset(gate, s.long_mode_active());
  check_branch_target(cpu, cs, rip);
  mark_accessed(cpu, &code);
  s.seg[CS] = make_segment(cs.selector, code);
  cpu.next_rip = rip;
}

void call_same_level(Vcpu& cpu, const SegmentRegister& cs, u64 rip, unsigned size, unsigned width) {
  CpuState& s = cpu.state;
  StackWriter stack(cpu, s.seg[SS], s.gpr[RSP], width, Rights::current, 0);
  stack.push(s.seg[CS].selector, size);
  stack.push(cpu.next_rip, size);
  check_branch_target(cpu, cs, rip);
  stack.commit();
  set_stack_pointer(s, width, stack.rsp());
  enter_code_segment(cpu, cs, rip);
}

void call_inner_level(Vcpu& cpu, const Descriptor& gate, const SegmentRegister& cs, u64 rip, unsigned size) {
  CpuState& s = cpu.state;
  const bool long_mode = s.long_mode_active();
  const unsigned cpl = cs.selector & 3;
  const TssStack tss = read_tss_stack(cpu, cpl, 0, 0);
  SegmentRegister ss = null_stack_segment(static_cast<u16>(cpl), cpl);
  u32 stack_error = 0;
  if (!long_mode) {
    if (null_selector(tss.ss)) throw fault_ts(0);
    ss = read_stack_segment(cpu, tss.ss, cpl, kTS);
    stack_error = tss.ss & 0xfffc;
  }
  const unsigned width = long_mode ? 8 : ss.big() ? 4 : 2;

  // Parameters come from the caller's stack, read with the caller's rights.
  const unsigned count = long_mode ? 0 : gate.raw >> 32 & 31;
  u64 parameters[31];
  StackReader caller(cpu);
  for (unsigned i = 0; i < count; ++i) parameters[i] = caller.pop(size);

  StackWriter stack(cpu, ss, tss.rsp, width, Rights::supervisor, stack_error);
  stack.push(s.seg[SS].selector, size);
  stack.push(s.gpr[RSP], size);
  for (unsigned i = count; i-- > 0;) stack.push(parameters[i], size);
  stack.push(s.seg[CS].selector, size);
  stack.push(cpu.next_rip, size);
  check_branch_target(cpu, cs, rip);
  stack.commit();
  s.seg[SS] = ss;
  s.gpr[RSP] = tss.rsp;
  set_stack_pointer(s, width, stack.rsp());
  enter_code_segment(cpu, cs, rip);
}

void far_call(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const FarPointer target = read_far_operand(cpu, insn);
  if (!s.protected_mode() || s.v8086()) {
    SegmentRegister cs = s.seg[CS];
    if (s.v8086())
      cs = v8086_segment(target.selector);
    else
      set_real_mode_segment(&cs, target.selector);
    return call_same_level(cpu, cs, target.offset, insn.operand_size, stack_width(s));
  }
  if (null_selector(target.selector)) throw fault_gp();
  const Descriptor d = read_descriptor(cpu, target.selector, kGP);
  if (d.code()) {
    const SegmentRegister cs = direct_code_segment(cpu, target.selector, d);
    return call_same_level(cpu, cs, target.offset, insn.operand_size, stack_width(s));
  }
  if (transfer_to_task(cpu, target.selector, d, TaskSwitchSource::call)) return;
  if (!is_call_gate(s, d)) throw selector_fault(kGP, target.selector);

  const Descriptor gate = read_call_gate(cpu, target.selector, d);
  Descriptor code = read_gate_target(cpu, gate.gate_selector());
  mark_accessed(cpu, &code);
  const unsigned cpl = code.conforming_code() ? s.cpl() : code.dpl();
  const SegmentRegister cs = make_segment(static_cast<u16>((gate.gate_selector() & ~3) | cpl), code);
  const u64 rip = gate_target_offset(gate, s.long_mode_active());
  const unsigned size = s.long_mode_active() ? 8 : gate.type() == kCallGate16 ? 2 : 4;
  if (cpl < s.cpl())
    call_inner_level(cpu, gate, cs, rip, size);
  else
    call_same_level(cpu, cs, rip, size, s.long_mode_active() ? 8 : stack_width(s));
}

void far_return(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const unsigned size = insn.operand_size;
  const u64 release = insn.imm_bytes ? static_cast<u16>(insn.imm) : 0;
  StackReader stack(cpu);
  const u64 rip = stack.pop(size);
  const u16 selector = static_cast<u16>(stack.pop(size));
  stack.skip(release);
  if (!s.protected_mode() || s.v8086()) {
    if (rip > s.seg[CS].limit) throw fault_gp();
    stack.commit();
    if (s.v8086())
      s.seg[CS] = v8086_segment(selector);
    else
      set_real_mode_segment(&s.seg[CS], selector);
    cpu.next_rip = rip;
    return;
  }

  if (null_selector(selector)) throw fault_gp();
  Descriptor d = read_descriptor(cpu, selector, kGP);
  const unsigned rpl = selector & 3;
  const u8 fault = return_segment_fault(s, selector, d);
  if (fault != kNoVector) throw selector_fault(fault, selector);
  if (rpl == s.cpl()) {
    const SegmentRegister cs = make_segment(selector, d);
    check_branch_target(cpu, cs, rip);
    mark_accessed(cpu, &d);
    stack.commit();
    return enter_code_segment(cpu, make_segment(selector, d), rip);
  }

  const u64 rsp = stack.pop(size);
  const u16 ss_selector = static_cast<u16>(stack.pop(size));
  SegmentRegister ss;
  if (null_selector(ss_selector)) {
    const bool to_64bit = s.long_mode_active() && d.long_mode();
    if (!null_stack_allowed(ss_selector, rpl, to_64bit)) throw fault_gp();
    ss = null_stack_segment(ss_selector, rpl);
  } else {
    ss = read_stack_segment(cpu, ss_selector, rpl, kGP);
  }
  mark_accessed(cpu, &d);
  const SegmentRegister cs = make_segment(selector, d);
  check_branch_target(cpu, cs, rip);
  s.seg[CS] = cs;
  s.seg[SS] = ss;
  set_stack_pointer(s, stack_width(s), rsp + release);
  unload_inner_segments(s);
  cpu.next_rip = rip;
}

}  // namespace

Helper find_transfer_helper(const Insn& insn) {
  // Zydis gives near and far forms one mnemonic; the opcodes tell them apart.
  if (insn.map != ZYDIS_OPCODE_MAP_DEFAULT) return nullptr;
  switch (insn.opcode) {
    case 0x9a:
      return insn.mnemonic == ZYDIS_MNEMONIC_CALL ? far_call : nullptr;
    case 0xea:
      return insn.mnemonic == ZYDIS_MNEMONIC_JMP ? far_jump : nullptr;
    case 0xca:
    case 0xcb:
      return insn.mnemonic == ZYDIS_MNEMONIC_RET ? far_return : nullptr;
    case 0xff:
      if (insn.modrm_reg() == 3) return far_call;
      if (insn.modrm_reg() == 5) return far_jump;
      return nullptr;
    default:
      return nullptr;
  }
}

}  // namespace deja
