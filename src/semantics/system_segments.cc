// Instructions that move segment registers and FS/GS bases (SDM vol. 2: MOV, PUSH, POP, LDS…, RDFSBASE,
// SWAPGS).
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {
namespace {

void mov_from_sreg(Vcpu& cpu, const Insn& insn) {
  write_operand(cpu, insn, 0, cpu.state.seg[insn.op[1].reg].selector);
}

void mov_to_sreg(Vcpu& cpu, const Insn& insn) {
  const Seg seg = static_cast<Seg>(insn.op[0].reg);
  if (seg == CS || seg > GS) throw fault_ud();
  load_segment(cpu, seg, static_cast<u16>(read_operand(cpu, insn, 1)));
  if (seg == SS) cpu.state.mov_ss_shadow = true;
}

// The selector is zero-extended to the operand size, which the SDM allows beside leaving the rest as it was.
void push_sreg(Vcpu& cpu, const Insn& insn) {
  push_value(cpu, cpu.state.seg[insn.op[0].reg].selector, insn.operand_size);
}

void pop_sreg(Vcpu& cpu, const Insn& insn) {
  const Seg seg = static_cast<Seg>(insn.op[0].reg);
  StackReader stack(cpu);
  const u16 selector = static_cast<u16>(stack.pop(insn.operand_size));
  const unsigned width = stack_width(cpu.state);  // POP SS moves the stack pointer of the old stack
  load_segment(cpu, seg, selector);
  set_stack_pointer(cpu.state, width, stack.rsp());
  if (seg == SS) cpu.state.mov_ss_shadow = true;
}

void load_far_pointer(Vcpu& cpu, const Insn& insn) {
  Seg seg = DS;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_LES:
      seg = ES;
      break;
    case ZYDIS_MNEMONIC_LSS:
      seg = SS;
      break;
    case ZYDIS_MNEMONIC_LFS:
      seg = FS;
      break;
    case ZYDIS_MNEMONIC_LGS:
      seg = GS;
      break;
    default:
      break;
  }
  const unsigned size = insn.operand_size;
  u8 bytes[10];
  cpu.mmu.read_bytes(operand_address(cpu, insn, size + 2, Access::read), bytes, size + 2);
  u64 offset = 0;
  u16 selector;
  std::memcpy(&offset, bytes, size);
  std::memcpy(&selector, bytes + size, 2);
  load_segment(cpu, seg, selector);
  write_gpr(cpu.state, insn.op[0], offset);
}

void require_fsgsbase(const CpuState& s) {
  if (!s.mode64() || !(s.cr4 & cr4bit::FSGSBASE)) throw fault_ud();
}

template <Seg seg>
void read_base(Vcpu& cpu, const Insn& insn) {
  require_fsgsbase(cpu.state);
  write_gpr(cpu.state, insn.op[0], cpu.state.seg[seg].base);
}

template <Seg seg>
void write_base(Vcpu& cpu, const Insn& insn) {
  require_fsgsbase(cpu.state);
  const u64 value = read_gpr(cpu.state, insn.op[0]);
  if (!is_canonical(value, cpu.model.linear_bits)) throw fault_gp();
  cpu.state.seg[seg].base = value;
}

void swapgs(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  if (!s.mode64()) throw fault_ud();
  require_cpl0(s);
  swap_gs(s);
}

}  // namespace

Helper find_segment_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
      if (insn.op[0].kind == OperandKind::seg) return mov_to_sreg;
      if (insn.op[1].kind == OperandKind::seg) return mov_from_sreg;
      return nullptr;
    case ZYDIS_MNEMONIC_PUSH:
      return insn.op[0].kind == OperandKind::seg ? push_sreg : nullptr;
    case ZYDIS_MNEMONIC_POP:
      return insn.op[0].kind == OperandKind::seg ? pop_sreg : nullptr;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
      return load_far_pointer;
    case ZYDIS_MNEMONIC_RDFSBASE:
      return read_base<FS>;
    case ZYDIS_MNEMONIC_RDGSBASE:
      return read_base<GS>;
    case ZYDIS_MNEMONIC_WRFSBASE:
      return write_base<FS>;
    case ZYDIS_MNEMONIC_WRGSBASE:
      return write_base<GS>;
    case ZYDIS_MNEMONIC_SWAPGS:
      return swapgs;
    default:
      return nullptr;
  }
}

}  // namespace deja
