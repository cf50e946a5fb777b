// C++ semantics of near branches and stack instructions, for the modes whose segments are not flat (real
// mode, 16-bit code, segments with a base) where the translator does not emit them inline; and of bit tests
// whose register index reaches beyond the operand, flag instructions, PAUSE.
#include "semantics/pure_ops.h"
#include "semantics/system.h"

namespace deja {
namespace {

bool condition_holds(u64 f, unsigned code) {
  const bool cf = f & flag::CF, zf = f & flag::ZF, sf = f & flag::SF, of = f & flag::OF, pf = f & flag::PF;
  bool r = false;
  switch (code >> 1) {
    case 0:
      r = of;
      break;
    case 1:
      r = cf;
      break;
    case 2:
      r = zf;
      break;
    case 3:
      r = cf || zf;
      break;
    case 4:
      r = sf;
      break;
    case 5:
      r = pf;
      break;
    case 6:
      r = sf != of;
      break;
    case 7:
      r = zf || sf != of;
      break;
  }
  return r != (code & 1);
}

// Near transfer to an offset: #GP(0) beyond the code segment's limit, truncated to the operand size.
void branch_to(Vcpu& cpu, const Insn& insn, u64 target) {
  const CpuState& s = cpu.state;
  if (s.mode64()) {
    if (!is_canonical(s, target)) throw fault_gp();
  } else {
    target &= insn.operand_size == 2 ? 0xffff : 0xffffffff;
    if (target > s.seg[CS].limit) throw fault_gp();
  }
  cpu.next_rip = target;
}

void op_jump(Vcpu& cpu, const Insn& i) {
  branch_to(cpu, i, i.is_relative ? cpu.next_rip + static_cast<u64>(i.imm) : read_operand(cpu, i, 0));
}

void op_jcc(Vcpu& cpu, const Insn& i) {
  if (condition_holds(cpu.state.rflags, i.opcode & 15))
    branch_to(cpu, i, cpu.next_rip + static_cast<u64>(i.imm));
}

void op_call(Vcpu& cpu, const Insn& i) {
  const u64 back = cpu.next_rip;
  const u64 target = i.is_relative ? back + static_cast<u64>(i.imm) : read_operand(cpu, i, 0);
  branch_to(cpu, i, target);
  push_value(cpu, back, i.operand_size);
}

void op_ret(Vcpu& cpu, const Insn& i) {
  const u64 rsp = cpu.state.gpr[RSP];
  const u64 target = pop_value(cpu, i.operand_size);
  try {
    branch_to(cpu, i, target);
  } catch (...) {
    cpu.state.gpr[RSP] = rsp;
    throw;
  }
  if (i.opcode == 0xc2) {
    const u64 drop = static_cast<u64>(i.imm) & 0xffff;
    u64& sp = cpu.state.gpr[RSP];
    if (cpu.state.mode64())
      sp += drop;
    else if (cpu.state.seg[SS].big())
      sp = (sp + drop) & 0xffffffff;
    else
      sp = (sp & ~u64{0xffff}) | ((sp + drop) & 0xffff);
  }
}

void op_loop(Vcpu& cpu, const Insn& i) {
  CpuState& s = cpu.state;
  const u64 mask = i.address_size == 2 ? 0xffff : i.address_size == 4 ? 0xffffffff : ~u64{0};
  u64 count = s.gpr[RCX] & mask;
  const bool zf = s.rflags & flag::ZF;
  bool taken;
  bool counts = true;
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_LOOP:
      taken = --count & mask;
      break;
    case ZYDIS_MNEMONIC_LOOPE:
      taken = (--count & mask) && zf;
      break;
    case ZYDIS_MNEMONIC_LOOPNE:
      taken = (--count & mask) && !zf;
      break;
    default:
      taken = count == 0, counts = false;
      break;
  }
  if (taken) branch_to(cpu, i, cpu.next_rip + static_cast<u64>(i.imm));
  if (!counts) return;
  count &= mask;
  s.gpr[RCX] = i.address_size == 2 ? (s.gpr[RCX] & ~mask) | count : count;
}

void op_push(Vcpu& cpu, const Insn& i) {
  push_value(cpu, i.op[0].kind == OperandKind::imm ? static_cast<u64>(i.imm) : read_operand(cpu, i, 0),
             i.operand_size);
}

void op_pop(Vcpu& cpu, const Insn& i) {
  const u64 rsp = cpu.state.gpr[RSP];
  const u64 value = pop_value(cpu, i.operand_size);
  try {
    write_operand(cpu, i, 0, value);  // an RSP-based address uses the incremented RSP
  } catch (...) {
    cpu.state.gpr[RSP] = rsp;
    throw;
  }
}

void op_leave(Vcpu& cpu, const Insn& i) {
  CpuState& s = cpu.state;
  const u64 rsp = s.gpr[RSP];
  const u64 stack_mask = s.mode64() ? ~u64{0} : s.seg[SS].big() ? 0xffffffff : 0xffff;
  s.gpr[RSP] = (rsp & ~stack_mask) | (s.gpr[RBP] & stack_mask);
  try {
    const u64 value = pop_value(cpu, i.operand_size);
    Operand bp;
    bp.kind = OperandKind::gpr;
    bp.reg = RBP;
    bp.size = i.operand_size;
    write_gpr(s, bp, value);
  } catch (...) {
    s.gpr[RSP] = rsp;
    throw;
  }
}

// BT, BTS, BTR, BTC of a bit string.
void op_bit(Vcpu& cpu, const Insn& i) {
  const unsigned size = i.operand_size;
  const SelectedBit bit = select_bit(read_gpr(cpu.state, i.op[1]), size);
  const u64 mask = i.address_size == 2 ? 0xffff : i.address_size == 4 ? 0xffffffff : ~u64{0};
  const u64 offset = (effective_offset(cpu, i) + static_cast<u64>(bit.distance)) & mask;
  const bool writes = writes_bit(i.mnemonic);
  const Gva at = linear_address(cpu, static_cast<Seg>(i.mem.segment), offset, size,
                                writes ? Access::write : Access::read);
  check_alignment(cpu, at, size);
  if (writes) cpu.mmu.probe(at, size, Access::write);
  u64 value = 0;
  cpu.mmu.read_bytes(at, &value, size);
  value = test_bit(cpu.state, i.mnemonic, value, bit.mask);
  if (writes) cpu.mmu.write_bytes(at, &value, size);
}

void op_cld(Vcpu& cpu, const Insn&) { cpu.state.rflags &= ~flag::DF; }
void op_std(Vcpu& cpu, const Insn&) { cpu.state.rflags |= flag::DF; }
void op_pause(Vcpu& cpu, const Insn&) { ++cpu.state.pause_run; }

// CLFLUSH faults as a byte read would.
void op_clflush(Vcpu& cpu, const Insn& i) {
  cpu.mmu.probe(operand_address(cpu, i, 1, Access::read), 1, Access::read);
}

}  // namespace

Helper find_near_helper(const Insn& i) {
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
      return i.op[0].kind == OperandKind::far_ptr || (i.has_mem && i.modrm_reg() == 5) ? nullptr : op_jump;
    case ZYDIS_MNEMONIC_CALL:
      return i.op[0].kind == OperandKind::far_ptr || (i.has_mem && i.modrm_reg() == 3) ? nullptr : op_call;
    case ZYDIS_MNEMONIC_RET:
      return i.opcode == 0xc2 || i.opcode == 0xc3 ? op_ret : nullptr;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
      return op_loop;
    case ZYDIS_MNEMONIC_PUSH:
      return i.op[0].kind == OperandKind::seg ? nullptr : op_push;
    case ZYDIS_MNEMONIC_POP:
      return i.op[0].kind == OperandKind::seg ? nullptr : op_pop;
    case ZYDIS_MNEMONIC_LEAVE:
      return op_leave;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      // The other forms come to flag_ops.h, when the host's flags differ.
      return i.has_mem && i.op[1].kind == OperandKind::gpr ? op_bit : nullptr;
    case ZYDIS_MNEMONIC_CLD:
      return op_cld;
    case ZYDIS_MNEMONIC_STD:
      return op_std;
    case ZYDIS_MNEMONIC_PAUSE:
      return op_pause;
    case ZYDIS_MNEMONIC_CLFLUSH:
      return op_clflush;
    default:
      return i.category == ZYDIS_CATEGORY_COND_BR ? op_jcc : nullptr;
  }
}

}  // namespace deja
