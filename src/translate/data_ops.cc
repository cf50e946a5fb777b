// Carried-over instructions, and those written anew that move data: LEA, absolute MOV, PUSH, POP, LEAVE.
#include <cstddef>

#include "translate/translator.h"

namespace deja {

void Translator::emit_carried(const Insn& i) {
  if (!i.has_mem || i.mnemonic == ZYDIS_MNEMONIC_NOP) return emit_carried_op(*insn_);
  const Operand* mem = nullptr;
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].kind == OperandKind::mem) mem = &i.op[k];
  if (!mem || mem->size == 0) return emit_carried_op(*insn_);
  AccessSpec spec;
  spec.size = mem->size;
  spec.read = mem->read;
  spec.write = mem->written;
  if (!spec.read && !spec.write) spec.read = true;
  spec.segment = i.mem.segment;
  spec.align = required_alignment(i);
  const bool mmx = uses_mmx(i);
  spec.waits_fpu = mmx || waits_for_fpu(i);
  spec.mmx_store = mmx && spec.write;
  spec.converts = i.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH;
  spec.x87_store = !mmx && spec.waits_fpu && spec.write;
  emit_access({&i}, spec);
}

void Translator::emit_lea(const Insn& i) {
  // No segment, no access; the result is truncated to the operand size.
  const Operand& to = i.op[0];
  const bool slot = to.reg >= R8 && to.reg <= R11;
  const unsigned host = slot            ? static_cast<unsigned>(HR9)
                        : to.reg == RCX ? static_cast<unsigned>(HR8)
                                        : to.reg;
  const MemOperand& m = i.mem;
  if (i.operand_size != 2 && m.address_size != 2 && !m.rip_relative) {
    const int base = m.base < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.base), HR9));
    const int index = m.index < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.index), HRCX));
    e_.lea(host, base, index, m.scale, static_cast<i32>(m.disp), m.address_size == 8 && i.operand_size == 8);
    return store_gpr(to.reg, host);
  }
  Insn plain = i;
  plain.mem.segment = DS;
  emit_address(plain);
  if (i.operand_size == 2) {
    // mov word reg, r9w: merges into the register.
    if (slot) {
      e_.b(0x66), e_.b(0x44, 0x89), e_.rip(HR9, gpr_slot(to.reg));
    } else {
      e_.b(0x66), e_.b(static_cast<u8>(0x44 | host >> 3), 0x89, static_cast<u8>(0xc8 | (host & 7)));
    }
    return;
  }
  if (i.operand_size == 4)
    e_.mov32(host, HR9);
  else if (!slot)
    e_.mov(host, HR9);
  store_gpr(to.reg, HR9);
}

void Translator::emit_moffs(const Insn& i) {
  // A0..A3: AL/AX/EAX/RAX and an absolute address; emitted as 8A/8B/88/89 with rax and the memory operand.
  const bool load = i.opcode == 0xa0 || i.opcode == 0xa1;
  const u8 size = i.op[0].kind == OperandKind::mem ? i.op[0].size : i.op[1].size;
  AccessSpec spec;
  spec.size = size;
  spec.read = load;
  spec.write = !load;
  spec.segment = i.mem.segment;
  emit_access({&i}, spec);
}

void Translator::op_moffs(const Insn& i) {
  const bool load = i.opcode == 0xa0 || i.opcode == 0xa1;
  const u8 size = i.op[0].kind == OperandKind::mem ? i.op[0].size : i.op[1].size;
  if (size == 2) e_.b(0x66);
  e_.b(mem_rex(HRAX, size == 8));
  e_.b(static_cast<u8>((load ? 0x8a : 0x88) | (size == 1 ? 0 : 1)));
  emit_mem(HRAX);
}

void Translator::emit_push(const Insn& i) {
  const u8 size = i.operand_size;
  if (i.has_mem) {
    load_to_r9({&i}, size, i.mem.segment);
    e_.mov_store(ctx(offsetof(ExecContext, branch_target)), HR9);
  }
  AccessSpec spec;
  spec.size = size;
  spec.write = true;
  spec.segment = SS;
  emit_access({nullptr, HRSP, -static_cast<i32>(size)}, spec);
}

void Translator::op_push(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = i.operand_size;
  const Operand& from = i.op[0];
  unsigned value = HRCX;
  if (from.kind == OperandKind::gpr)
    value = load_gpr(from.reg, HRCX);
  else if (from.kind == OperandKind::imm)
    e_.mov_imm(HRCX, i.imm);
  else
    e_.mov_load(HRCX, ctx(offsetof(ExecContext, branch_target)));
  store_mem(value, size);
  e_.lea(HRSP, HRSP, -1, 1, -static_cast<i32>(size), wide);
}

void Translator::emit_pop(const Insn& i) {
  const u8 size = i.operand_size;
  const Address top{nullptr, HRSP, 0};
  if (i.has_mem) {
    load_to_r9(top, size, SS);
    e_.mov_store(ctx(offsetof(ExecContext, branch_target)), HR9);
    AccessSpec store;
    store.size = size;
    store.write = true;
    store.segment = i.mem.segment;
    // An address off RSP is computed with what RSP is after the pop.
    return emit_access({&i, 0, i.mem.base == RSP ? size : 0}, store);
  }
  AccessSpec load;
  load.size = size;
  load.read = true;
  load.segment = SS;
  emit_access(top, load);
}

void Translator::op_pop(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = i.operand_size;
  const Operand& to = i.op[0];
  if (to.kind == OperandKind::mem) {
    e_.mov_load(HRCX, ctx(offsetof(ExecContext, branch_target)));
    store_mem(HRCX, size);
    e_.lea(HRSP, HRSP, -1, 1, size, wide);
  } else if (to.reg >= R8 && to.reg <= R11) {
    load_mem(HRCX, size);
    if (size == 2)
      e_.b(0x66), e_.b(0x89), e_.rip(HRCX, gpr_slot(to.reg));
    else
      e_.mov_store(gpr_slot(to.reg), HRCX);
    e_.lea(HRSP, HRSP, -1, 1, size, wide);
  } else if (to.reg == RSP) {
    if (size == 2) {
      load_mem(HRCX, size);
      e_.lea(HRSP, HRSP, -1, 1, size, wide);
      e_.b(0x66), e_.b(0x89, 0xcc);  // mov sp, cx
    } else {
      load_mem(HRSP, size);
    }
  } else {
    load_mem(to.reg == RCX ? static_cast<unsigned>(HR8) : to.reg, size);
    e_.lea(HRSP, HRSP, -1, 1, size, wide);
  }
}

void Translator::emit_leave(const Insn&) {
  const u8 size = mode_.code_size() == CodeSize::bits64 ? 8 : 4;
  AccessSpec load;
  load.size = size;
  load.read = true;
  load.segment = SS;
  emit_access({nullptr, HRBP, 0}, load);
}

void Translator::op_leave(const Insn&) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = wide ? 8 : 4;
  load_mem(HRCX, size);
  e_.lea(HRSP, HRBP, -1, 1, size, wide);
  if (wide)
    e_.mov(HRBP, HRCX);
  else
    e_.mov32(HRBP, HRCX);
}

}  // namespace deja
