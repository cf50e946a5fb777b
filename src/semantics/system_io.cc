// IN and OUT (SDM vol. 1 chapter 19). INS and OUTS are string instructions.
#include "semantics/system.h"

namespace deja {
namespace {

u16 port_operand(const CpuState& s, const Operand& op, const Insn& insn) {
  return op.kind == OperandKind::imm ? static_cast<u8>(insn.imm) : static_cast<u16>(s.gpr[RDX]);
}

void in(Vcpu& cpu, const Insn& insn) {
  const Operand& accumulator = insn.op[0];
  const u16 port = port_operand(cpu.state, insn.op[1], insn);
  check_io_permission(cpu, port, accumulator.size);
  note_io_breakpoints(cpu.state, port, accumulator.size);
  write_gpr(cpu.state, accumulator, cpu.platform.port_read(port, accumulator.size));
}

void out(Vcpu& cpu, const Insn& insn) {
  const Operand& accumulator = insn.op[1];
  const u16 port = port_operand(cpu.state, insn.op[0], insn);
  check_io_permission(cpu, port, accumulator.size);
  note_io_breakpoints(cpu.state, port, accumulator.size);
  cpu.platform.port_write(port, low32(read_gpr(cpu.state, accumulator)), accumulator.size);
}

}  // namespace

Helper find_io_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_IN:
      return in;
    case ZYDIS_MNEMONIC_OUT:
      return out;
    default:
      return nullptr;
  }
}

}  // namespace deja
