#include "translate/flag_fixes.h"

#include <cstddef>

#include "base/check.h"
#include "decode/flag_groups.h"
#include "translate/translator.h"

namespace deja {
namespace {

// A shift or rotation by CL, whose count is known when it is executed.
bool by_cl(const Insn& i) { return i.implicit_rcx; }

// What a shift or rotation by anything else is by.
unsigned constant_count(const Insn& i) {
  const unsigned mask = i.op[0].size == 8 ? 63 : 31;
  return (i.imm_offset ? static_cast<unsigned>(i.imm) : 1) & mask;
}

bool is_register(const Operand& o) { return o.kind == OperandKind::gpr && !o.high; }
bool in_slot(const Operand& o) { return o.kind == OperandKind::gpr && o.reg >= R8 && o.reg <= R11; }

bool can_fix_shift(const Insn& i) {
  const Operand& to = i.op[0];
  if (to.kind == OperandKind::mem) return !by_cl(i);
  return is_register(to) && !(by_cl(i) && to.reg == RCX);
}

bool can_fix_rotate(const Insn& i) {
  const Operand& to = i.op[0];
  const bool through_carry = i.mnemonic == ZYDIS_MNEMONIC_RCL || i.mnemonic == ZYDIS_MNEMONIC_RCR;
  if (!by_cl(i) && constant_count(i) == 1) return true;
  return !through_carry && is_register(to) && !(by_cl(i) && to.reg == RCX);
}

bool can_fix_double_shift(const Insn& i) { return is_register(i.op[0]) && i.op[0].size >= 4 && !by_cl(i); }

// The operand of DIV and of the one-operand multiplications that is named.
const Operand& named_operand(const Insn& i) {
  unsigned named = 0;
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].field == Field::modrm_rm) named = k;
  return i.op[named];
}

// An instruction that can neither fault nor leave the block, and calls nobody.
bool is_quiet(const BlockInsn& b) {
  if (b.way == Way::lea || b.way == Way::nothing) return true;
  if (b.way != Way::carry || b.insn.has_mem || flag_group(b.insn.mnemonic) == FlagGroup::divide) return false;
  return b.insn.isa_ext == ZYDIS_ISA_EXT_BASE || b.insn.isa_ext == ZYDIS_ISA_EXT_LONGMODE;
}

// The flags that it sets whatever its operands are.
u32 overwritten(const BlockInsn& b) {
  if (b.way != Way::carry) return 0;
  const Insn& i = b.insn;
  switch (flag_group(i.mnemonic)) {
    case FlagGroup::none:
      return i.mnemonic == ZYDIS_MNEMONIC_CMPXCHG ? 0 : i.flags_written;
    case FlagGroup::logic:
    case FlagGroup::multiply:
    case FlagGroup::bit_scan:
      return flag::kStatus;
    case FlagGroup::shift:
      return by_cl(i) || constant_count(i) == 0 ? 0 : flag::kStatus;
    default:
      return 0;
  }
}

}  // namespace

u64 fixed_flags(FlagGroup group) {
  switch (group) {
    case FlagGroup::shift:
    case FlagGroup::double_shift:
      return flag::AF | flag::OF;
    case FlagGroup::rotate:
    case FlagGroup::count:
      return flag::OF;
    case FlagGroup::multiply:
      return flag::SF | flag::ZF | flag::AF | flag::PF;
    case FlagGroup::divide:
    case FlagGroup::bit_scan:
      return flag::kStatus;
    case FlagGroup::bmi:
      return flag::OF | flag::AF | flag::PF;
    default:
      return 0;
  }
}

bool result_is_same_everywhere(const Insn& i) {
  return flag_group(i.mnemonic) != FlagGroup::double_shift || i.op[0].size != 2;
}

bool can_fix_flags(const Insn& i) {
  switch (flag_group(i.mnemonic)) {
    case FlagGroup::shift:
      return can_fix_shift(i);
    case FlagGroup::rotate:
      return can_fix_rotate(i);
    case FlagGroup::double_shift:
      return can_fix_double_shift(i);
    case FlagGroup::multiply:
      return named_operand(i).size != 1;
    case FlagGroup::divide:
      return !named_operand(i).high;
    case FlagGroup::bit_scan:
    case FlagGroup::count:
    case FlagGroup::bmi:
      return true;
    default:
      return false;
  }
}

void plan_flags(std::vector<BlockInsn>& block) {
  for (std::size_t at = 0; at < block.size(); ++at) {
    BlockInsn& b = block[at];
    if (!b.soft || !result_is_same_everywhere(b.insn)) continue;
    u64 wrong = fixed_flags(flag_group(b.insn.mnemonic));
    for (std::size_t next = at + 1; next < block.size() && wrong; ++next) {
      if (!is_quiet(block[next]) || (block[next].insn.flags_read & wrong)) break;
      wrong &= ~u64{overwritten(block[next])};
    }
    if (wrong) continue;
    b.way = Way::carry;
    b.fix_flags = false;
  }
}

// --- emission

namespace {

enum Rotation : unsigned { kRol = 0, kRor = 1, kRcr = 3 };  // ModRM.reg of D0 and D1

// opcode (of the form with bytes; the next one is of the others) with a register in ModRM.rm.
void emit_sized(Emitter& e, unsigned size, u8 opcode, unsigned reg, unsigned rm) {
  if (size == 2) e.b(0x66);
  e.b(static_cast<u8>(0x40 | (size == 8) << 3 | (reg >> 3) << 2 | rm >> 3));
  e.b(static_cast<u8>(size == 1 ? opcode : opcode + 1), static_cast<u8>(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

void emit_test(Emitter& e, unsigned size, unsigned reg) { emit_sized(e, size, 0x84, reg, reg); }
void emit_rotate_by_1(Emitter& e, unsigned size, Rotation how, unsigned reg) {
  emit_sized(e, size, 0xd0, how, reg);
}
void emit_set_cl(Emitter& e, unsigned condition) { e.b(0x0f, static_cast<u8>(0x90 | condition), 0xc1); }
// CF = bit of the register; the other flags stay.
void emit_bit_to_cf(Emitter& e, unsigned size, unsigned reg, u8 bit) {
  if (size == 8 || reg >= 8) e.b(static_cast<u8>(0x40 | (size == 8) << 3 | reg >> 3));
  e.b(0x0f, 0xba, static_cast<u8>(0xe0 | (reg & 7)), bit);
}
void emit_rorx(Emitter& e, unsigned size, unsigned reg, unsigned count) {
  e.b(0xc4, static_cast<u8>((reg < 8 ? 0xe0 : 0x40) | 3));
  e.b(size == 8 ? 0xfb : 0x7b, 0xf0, static_cast<u8>(0xc0 | (reg & 7) << 3 | (reg & 7)),
      static_cast<u8>(count));
}

constexpr unsigned kOverflow = 0, kCarry = 2, kNotZero = 5;  // condition codes

}  // namespace

unsigned Translator::result_of(const Operand& o) { return load_gpr(o.reg, HR9); }

void Translator::emit_fixed_op(const Insn& i) {
  switch (flag_group(i.mnemonic)) {
    case FlagGroup::shift:
    case FlagGroup::double_shift:
      return emit_fixed_shift(i);
    case FlagGroup::rotate:
      return emit_fixed_rotate(i);
    case FlagGroup::multiply:
      return emit_fixed_multiply(i);
    case FlagGroup::divide:
      return emit_fixed_divide(i);
    case FlagGroup::bit_scan:
      return emit_fixed_scan(i);
    case FlagGroup::count:
      return emit_fixed_count(i);
    case FlagGroup::bmi:
      return emit_fixed_bmi(i);
    default:
      DEJA_UNREACHABLE("flags that cannot be mended");
  }
}

u8* Translator::skip_if_count_is_0(unsigned size) {
  // pext ecx, r8d, mask
  e_.b(0xc4, 0xe2, 0x3a, 0xf5);
  e_.rip(HRCX, ctx(offsetof(ExecContext, count_mask) + (size == 8 ? 4 : 0)));
  return e_.jrcxz();
}

// AF is 0, and OF what shifting the old value by one bit gives. TEST of the result leaves both 0 and the
// others right; a rotation of the old value changes CF and OF alone, and BT brings CF back.
void Translator::emit_fixed_shift(const Insn& i) {
  const Operand& to = i.op[0];
  const unsigned size = to.size;
  if (!by_cl(i) && constant_count(i) == 0) return emit_op(i);
  const bool memory = to.kind == OperandKind::mem;
  const bool doubled = flag_group(i.mnemonic) == FlagGroup::double_shift;
  const bool right = i.mnemonic == ZYDIS_MNEMONIC_SHR;
  const bool old_counts = i.mnemonic != ZYDIS_MNEMONIC_SAR;
  const u64 old_slot = ctx(offsetof(ExecContext, old_value));
  // emit_op has r9 first of all for what stands in a slot.
  const unsigned old = in_slot(to) || (doubled && in_slot(i.op[1])) ? HR10 : HR9;
  if (old == HR10) lose_r10();
  if (memory) {
    load_mem_zero_extended(HRCX, size);
    e_.mov_store(old_slot, HRCX);
  } else if (old_counts) {
    e_.mov(old, load_gpr(to.reg, old));
    if (i.mnemonic == ZYDIS_MNEMONIC_SHRD) {
      // Its OF is the old top bit against the bit that comes in: shrd old, second, 1 has both on top.
      const unsigned second = load_gpr(i.op[1].reg, HR9);
      e_.b(static_cast<u8>(0x40 | (size == 8) << 3 | (second >> 3) << 2 | old >> 3), 0x0f, 0xac);
      e_.b(static_cast<u8>(0xc0 | (second & 7) << 3 | (old & 7)), 1);
    }
  }
  emit_op(i);
  u8* const unchanged = by_cl(i) ? skip_if_count_is_0(size) : nullptr;
  emit_set_cl(e_, kCarry);
  if (memory)
    compare_mem_with_0(size);
  else
    emit_test(e_, size, result_of(to));
  if (old_counts) {
    // RCR by 1: OF is the old top bit against CF, which is 0.
    const Rotation how = right ? kRcr : kRol;
    if (memory) {
      if (size == 2) e_.b(0x66);
      if (size == 8) e_.b(0x48);
      e_.b(size == 1 ? 0xd0 : 0xd1), e_.rip(how, old_slot);
    } else {
      emit_rotate_by_1(e_, size, how, old);
    }
  }
  emit_bit_to_cf(e_, 4, HRCX, 0);
  if (unchanged) e_.land(unchanged);
}

// By a constant other than 1 OF stays; by CL it is what rotating by one bit gives.
void Translator::emit_fixed_rotate(const Insn& i) {
  const Operand& to = i.op[0];
  const unsigned size = to.size, bits = size * 8;
  const bool left = i.mnemonic == ZYDIS_MNEMONIC_ROL;
  const unsigned old = in_slot(to) ? HR10 : HR9;
  if (by_cl(i)) {
    if (old == HR10) lose_r10();
    e_.mov(old, load_gpr(to.reg, old));
    emit_op(i);
    u8* const unchanged = skip_if_count_is_0(size);
    emit_set_cl(e_, kCarry);
    emit_rotate_by_1(e_, size, left ? kRol : kRor, old);
    emit_bit_to_cf(e_, 4, HRCX, 0);
    return e_.land(unchanged);
  }
  const unsigned count = constant_count(i);
  if (count <= 1) return emit_op(i);
  if (size >= 4) {
    const unsigned host = load_gpr(to.reg, HR9);
    emit_rorx(e_, size, host, left ? bits - count : count);
    store_gpr(to.reg, host);
    return emit_bit_to_cf(e_, size, host, static_cast<u8>(left ? 0 : bits - 1));
  }
  // 0 or 1 rotated to the right: CF and OF are its bit.
  if (old == HR10) lose_r10();
  e_.b(0x41, 0x0f, static_cast<u8>(0x90 | kOverflow), static_cast<u8>(0xc0 | (old & 7)));  // seto old
  emit_op(i);
  emit_set_cl(e_, kCarry);
  emit_rotate_by_1(e_, 1, kRor, old);
  emit_bit_to_cf(e_, 4, HRCX, 0);
}

// SF and PF are the low half's, ZF and AF 0.
void Translator::emit_fixed_multiply(const Insn& i) {
  emit_op(i);
  emit_set_cl(e_, kCarry);
  const bool accumulates = i.op[0].field != Field::modrm_reg;
  const Operand low{.kind = OperandKind::gpr, .reg = accumulates ? u8{RAX} : i.op[0].reg};
  const unsigned size = named_operand(i).size;
  const unsigned result = result_of(low);
  if (result != HR9) e_.mov(HR9, result);
  // or r9, 100h: never 0, the top bit and the low byte as they are.
  if (size == 2) e_.b(0x66);
  e_.b(size == 8 ? 0x49 : 0x41, 0x81, 0xc9);
  if (size == 2)
    e_.b(0x00, 0x01);
  else
    e_.d(0x100);
  e_.b(0xd0, 0xc9);  // ror cl, 1: CF and OF are its bit
}

// All flags stay.
void Translator::emit_fixed_divide(const Insn& i) {
  const u64 flags = ctx(offsetof(ExecContext, flags_ax));
  e_.mov(HRCX, HRAX);
  e_.b(0x9f), e_.b(0x0f, 0x90, 0xc0);     // lahf; seto al
  e_.b(0x66, 0x89), e_.rip(HRAX, flags);  // mov flags, ax
  e_.mov(HRAX, HRCX);
  emit_op(i);
  e_.mov(HRCX, HRAX);
  e_.b(0x0f, 0xb7), e_.rip(HRAX, flags);  // movzx eax, flags
  e_.b(0x04, 0x7f), e_.b(0x9e);           // add al, 127; sahf
  e_.mov(HRAX, HRCX);
}

// ZF says that the operand is 0, PF is the result's parity (1 without one), the others are 0.
void Translator::emit_fixed_scan(const Insn& i) {
  emit_op(i);
  const unsigned result = result_of(i.op[0]);
  e_.mov_imm32(HRCX, 0);
  if (result >= 8) e_.b(0x41);
  e_.b(0x0f, static_cast<u8>(0x40 | kNotZero), static_cast<u8>(0xc8 | (result & 7)));  // cmovnz ecx, result
  e_.b(0x0f, static_cast<u8>(0x90 | kNotZero), 0xc5);                                  // setnz ch
  e_.b(0x66, 0x85, 0xc9);  // test cx, cx: of a 16-bit result the upper half is something else
}

// OF is 0. A rotated register of which all bits are CF leaves CF as it is and OF 0.
void Translator::emit_fixed_count(const Insn& i) {
  emit_op(i);
  e_.mov_imm32(HRCX, 0);
  e_.mov_imm32(HR9, 0xffffffff);
  e_.b(0x41, 0x0f), e_.b(static_cast<u8>(0x40 | kCarry), 0xc9);  // cmovc ecx, r9d
  e_.b(0xd1, 0xc1);                                              // rol ecx, 1
}

// OF, AF and PF are 0.
void Translator::emit_fixed_bmi(const Insn& i) {
  emit_op(i);
  e_.mov(HRCX, HRAX);
  e_.b(0x9f), e_.b(0x80, 0xe4, 0xeb), e_.b(0x9e);  // lahf; and ah, ~(AF | PF); sahf
  e_.mov(HRAX, HRCX);
}

void Translator::load_mem_zero_extended(unsigned reg, unsigned size) {
  if (size >= 4) return load_mem(reg, size);
  e_.b(mem_rex(reg, false), 0x0f, static_cast<u8>(size == 1 ? 0xb6 : 0xb7));
  emit_mem(reg);
}

void Translator::compare_mem_with_0(unsigned size) {
  if (size == 2) e_.b(0x66);
  e_.b(mem_rex(0, size == 8), static_cast<u8>(size == 1 ? 0x80 : 0x83));
  emit_mem(7);
  e_.b(0);
}

}  // namespace deja
