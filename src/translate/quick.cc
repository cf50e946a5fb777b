#include "translate/quick.h"

namespace deja {
namespace {

// 64h and 65h: the only segment overrides with an effect in 64-bit mode.
bool uses_fs_or_gs(const Insn& i) {
  for (unsigned k = 0; k < i.opcode_offset; ++k)
    if (i.bytes[k] == 0x64 || i.bytes[k] == 0x65) return true;
  return false;
}

}  // namespace

QuickOp quick_op(const Insn& i, BlockMode mode) {
  if (!mode.has(BlockMode::kCode64) || mode.has(BlockMode::kObserved)) return QuickOp::none;
  const bool wide = i.operand_size == 8;
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
      return QuickOp::cli;
    case ZYDIS_MNEMONIC_STI:
      return QuickOp::sti;
    case ZYDIS_MNEMONIC_PUSHFQ:
      return wide ? QuickOp::pushf : QuickOp::none;
    case ZYDIS_MNEMONIC_POPFQ:
      return wide ? QuickOp::popf : QuickOp::none;
    case ZYDIS_MNEMONIC_STAC:
      return QuickOp::stac;
    case ZYDIS_MNEMONIC_CLAC:
      return QuickOp::clac;
    case ZYDIS_MNEMONIC_CLD:
      return QuickOp::cld;
    case ZYDIS_MNEMONIC_STD:
      return QuickOp::std;
    case ZYDIS_MNEMONIC_SWAPGS:
      return QuickOp::swapgs;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
      return wide ? QuickOp::read_base : QuickOp::none;
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
      return wide ? QuickOp::write_base : QuickOp::none;
    case ZYDIS_MNEMONIC_RDTSC:
      return QuickOp::rdtsc;
    case ZYDIS_MNEMONIC_RDTSCP:
      return QuickOp::rdtscp;
    case ZYDIS_MNEMONIC_PAUSE:
      return QuickOp::pause;
    case ZYDIS_MNEMONIC_MOV:
      if (i.op[1].kind == OperandKind::seg && i.op[0].kind == OperandKind::gpr && i.op[0].size >= 4)
        return QuickOp::read_seg;
      return i.op[1].kind == OperandKind::cr && (i.op[1].reg == 0 || (i.op[1].reg >= 2 && i.op[1].reg <= 4))
                 ? QuickOp::read_cr
                 : QuickOp::none;
    case ZYDIS_MNEMONIC_SYSCALL:
      return QuickOp::syscall;
    case ZYDIS_MNEMONIC_SYSRET:
      return i.rex_w ? QuickOp::sysret : QuickOp::none;
    case ZYDIS_MNEMONIC_IRETQ:
      return wide ? QuickOp::iret : QuickOp::none;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
      return i.has_mem && i.op[1].kind == OperandKind::gpr && i.operand_size >= 4 && i.address_size == 8
                 ? QuickOp::bit
                 : QuickOp::none;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      return i.address_size == 8 ? QuickOp::cmpxchg16b : QuickOp::none;
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
      return i.address_size == 8 ? QuickOp::stos : QuickOp::none;
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
      // MOVSD is also the name of an SSE2 instruction.
      return i.address_size == 8 && i.map == ZYDIS_OPCODE_MAP_DEFAULT && !uses_fs_or_gs(i) ? QuickOp::movs
                                                                                           : QuickOp::none;
    default:
      return QuickOp::none;
  }
}

}  // namespace deja
