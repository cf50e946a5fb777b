#include "semantics/flag_ops.h"

#include <bit>
#include <type_traits>

#include "base/check.h"
#include "semantics/system.h"

namespace deja {
namespace {

u64 mask_of(unsigned bits) { return bits == 64 ? ~u64{0} : (u64{1} << bits) - 1; }

// One operation's operands, cut to size.
struct Operation {
  unsigned bits;
  u64 mask, sign;
  u64 a, b, c;
  u64 status;
  bool immediate;  // the count is part of an instruction on registers

  bool top(u64 v) const { return v & sign; }
  bool below_top(u64 v) const { return v & sign >> 1; }
  bool carry_in() const { return status & flag::CF; }
  u64 sf_zf_pf(u64 v) const {
    return (v & sign ? flag::SF : 0) | ((v & mask) == 0 ? flag::ZF : 0) | parity(v);
  }
  static u64 parity(u64 v) { return std::popcount(v & 0xff) & 1 ? 0 : flag::PF; }
  // Shift counts are taken modulo 32 or 64.
  unsigned count() const { return static_cast<unsigned>(b & (bits == 64 ? 63 : 31)); }
  FlagOpResult unchanged() const { return {a, 0, status, true}; }
};

u64 cf_of(bool cf, bool of) { return (cf ? flag::CF : 0) | (of ? flag::OF : 0); }

// OF of the shifts and rotates is what the manual defines for a count of 1, applied to the old value whatever
// the count; ROL and ROR of a register by an immediate other than 1 leave it.
FlagOpResult shift(ZydisMnemonic m, const Operation& o) {
  const unsigned n = o.count();
  if (n == 0) return o.unchanged();
  u64 value = 0;
  bool cf = false, of = false;
  if (m == ZYDIS_MNEMONIC_SHL) {
    value = n < o.bits ? o.a << n & o.mask : 0;
    cf = n <= o.bits && (o.a >> (o.bits - n) & 1);
    of = o.top(o.a) != o.below_top(o.a);
  } else if (m == ZYDIS_MNEMONIC_SHR) {
    value = n < o.bits ? o.a >> n : 0;
    cf = n <= o.bits && (o.a >> (n - 1) & 1);
    of = o.top(o.a);
  } else {
    const i64 a = sign_extend(static_cast<i64>(o.a), o.bits);
    value = static_cast<u64>(a >> n) & o.mask;
    cf = a >> (n - 1) & 1;
  }
  return {value, 0, o.sf_zf_pf(value) | cf_of(cf, of)};
}

FlagOpResult rotate(ZydisMnemonic m, const Operation& o) {
  const unsigned n = o.count();
  const u64 others = o.status & ~(flag::CF | flag::OF);
  if (m == ZYDIS_MNEMONIC_ROL || m == ZYDIS_MNEMONIC_ROR) {
    if (n == 0) return o.unchanged();
    const bool left = m == ZYDIS_MNEMONIC_ROL;
    const unsigned by = (left ? n : o.bits - n % o.bits) % o.bits;
    const u64 value = by ? (o.a << by | o.a >> (o.bits - by)) & o.mask : o.a;
    bool of = left ? o.top(o.a) != o.below_top(o.a) : o.top(o.a) != bool(o.a & 1);
    if (o.immediate && n != 1) of = o.status & flag::OF;
    return {value, 0, others | cf_of(left ? value & 1 : o.top(value), of)};
  }
  // Through CF, one bit at a time: bits + 1 positions.
  const unsigned by = n % (o.bits + 1);
  if (by == 0) return o.unchanged();
  u64 value = o.a;
  bool cf = o.carry_in();
  for (unsigned i = 0; i < by; ++i) {
    if (m == ZYDIS_MNEMONIC_RCL) {
      const bool out = o.top(value);
      value = (value << 1 & o.mask) | (cf ? 1 : 0);
      cf = out;
    } else {
      const bool out = value & 1;
      value = value >> 1 | (cf ? o.sign : 0);
      cf = out;
    }
  }
  const bool of = m == ZYDIS_MNEMONIC_RCL ? o.top(o.a) != o.below_top(o.a) : o.top(o.a) != o.carry_in();
  return {value, 0, others | cf_of(cf, of)};
}

// A 16-bit operand shifted by more than 16 sees itself again behind the other one.
FlagOpResult double_shift(ZydisMnemonic m, const Operation& o) {
  const unsigned n = o.count();
  if (n == 0) return o.unchanged();
  u64 value;
  bool cf, of;
  if (m == ZYDIS_MNEMONIC_SHLD) {
    if (n <= o.bits) {
      value = ((n < o.bits ? o.a << n : 0) | o.c >> (o.bits - n)) & o.mask;
      cf = o.a >> (o.bits - n) & 1;
    } else {
      value = (o.c << (n - 16) | o.a >> (32 - n)) & o.mask;
      cf = o.c >> (32 - n) & 1;
    }
    of = o.top(o.a) != o.below_top(o.a);
  } else {
    if (n <= o.bits) {
      value = ((n < o.bits ? o.a >> n : 0) | o.c << (o.bits - n)) & o.mask;
      cf = o.a >> (n - 1) & 1;
    } else {
      value = (o.c >> (n - 16) | o.a << (32 - n)) & o.mask;
      cf = o.c >> (n - 17) & 1;
    }
    of = o.top(o.a) != bool(o.c & 1);
  }
  return {value, 0, o.sf_zf_pf(value) | cf_of(cf, of)};
}

FlagOpResult multiply(ZydisMnemonic m, const Operation& o) {
  u128 product;
  bool overflow;
  if (m == ZYDIS_MNEMONIC_MUL) {
    product = u128{o.a} * o.b;
    overflow = static_cast<u64>(product >> o.bits) != 0;
  } else {
    const i128 p =
        i128{sign_extend(static_cast<i64>(o.a), o.bits)} * sign_extend(static_cast<i64>(o.b), o.bits);
    product = static_cast<u128>(p);
    overflow = p != sign_extend(static_cast<i64>(static_cast<u64>(product) & o.mask), o.bits);
  }
  const u64 low = static_cast<u64>(product) & o.mask;
  const u64 high = static_cast<u64>(product >> o.bits) & o.mask;
  return {low, high, (o.top(low) ? flag::SF : 0) | Operation::parity(low) | cf_of(overflow, overflow)};
}

FlagOpResult divide(ZydisMnemonic m, const Operation& o) {
  if (o.b == 0) throw GuestFault{kDE};
  const u128 dividend = u128{o.c} << o.bits | o.a;
  if (m == ZYDIS_MNEMONIC_DIV) {
    const u128 quotient = dividend / o.b;
    if (quotient > o.mask) throw GuestFault{kDE};
    return {static_cast<u64>(quotient), static_cast<u64>(dividend % o.b), o.status};
  }
  const i128 a =
      o.bits == 64 ? static_cast<i128>(dividend) : i128{sign_extend(static_cast<i64>(dividend), o.bits * 2)};
  const i64 b = sign_extend(static_cast<i64>(o.b), o.bits);
  // The most negative dividend by -1 would overflow on the host too.
  const u128 magnitude = (a < 0 ? -static_cast<u128>(a) : static_cast<u128>(a)) /
                         (b < 0 ? -static_cast<u64>(b) : static_cast<u64>(b));
  const bool negative = (a < 0) != (b < 0);
  if (magnitude > (negative ? u128{o.sign} : u128{o.sign} - 1)) throw GuestFault{kDE};
  const u64 quotient = static_cast<u64>(negative ? -magnitude : magnitude) & o.mask;
  const u64 remainder = static_cast<u64>(
      static_cast<u128>(a) - static_cast<u128>(i128{sign_extend(static_cast<i64>(quotient), o.bits)} * b));
  return {quotient, remainder & o.mask, o.status};
}

FlagOpResult scan(ZydisMnemonic m, const Operation& o) {
  const bool zero = o.b == 0;
  const unsigned leading = static_cast<unsigned>(std::countl_zero(o.b)) - (64 - o.bits);
  const unsigned trailing = zero ? o.bits : static_cast<unsigned>(std::countr_zero(o.b));
  switch (m) {
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR: {
      if (zero) return {0, 0, flag::ZF | flag::PF, false};
      const u64 index = m == ZYDIS_MNEMONIC_BSF ? trailing : o.bits - 1 - leading;
      return {index, 0, Operation::parity(index)};
    }
    default: {
      const u64 n = m == ZYDIS_MNEMONIC_TZCNT ? trailing : leading;
      return {n, 0, u64{zero ? flag::CF : 0} | (n == 0 ? flag::ZF : 0)};
    }
  }
}

FlagOpResult bit_test(ZydisMnemonic m, const Operation& o) {
  const u64 bit = u64{1} << (o.b & (o.bits - 1));
  const u64 status = (o.status & ~flag::CF) | (o.a & bit ? flag::CF : 0);
  switch (m) {
    case ZYDIS_MNEMONIC_BTS:
      return {o.a | bit, 0, status};
    case ZYDIS_MNEMONIC_BTR:
      return {o.a & ~bit, 0, status};
    case ZYDIS_MNEMONIC_BTC:
      return {o.a ^ bit, 0, status};
    default:
      return {o.a, 0, status, false};
  }
}

FlagOpResult logic(ZydisMnemonic m, const Operation& o) {
  const u64 value = m == ZYDIS_MNEMONIC_OR ? o.a | o.b : m == ZYDIS_MNEMONIC_XOR ? o.a ^ o.b : o.a & o.b;
  return {value, 0, o.sf_zf_pf(value), m != ZYDIS_MNEMONIC_TEST};
}

FlagOpResult bmi(ZydisMnemonic m, const Operation& o) {
  const auto result = [&](u64 v, bool cf) {
    v &= o.mask;
    return FlagOpResult{v, 0, (o.sf_zf_pf(v) & ~flag::PF) | (cf ? flag::CF : 0)};
  };
  switch (m) {
    case ZYDIS_MNEMONIC_ANDN:
      return result(~o.a & o.b, false);
    case ZYDIS_MNEMONIC_BLSI:
      return result(o.b & -o.b, o.b != 0);
    case ZYDIS_MNEMONIC_BLSR:
      return result(o.b & (o.b - 1), o.b == 0);
    case ZYDIS_MNEMONIC_BLSMSK: {
      FlagOpResult r = result(o.b ^ (o.b - 1), o.b == 0);
      r.status &= ~flag::ZF;
      return r;
    }
    case ZYDIS_MNEMONIC_BZHI: {
      const unsigned index = o.b & 0xff;
      return result(index < o.bits ? o.a & ((u64{1} << index) - 1) : o.a, index >= o.bits);
    }
    default: {  // BEXTR
      const unsigned start = o.b & 0xff, length = o.b >> 8 & 0xff;
      u64 v = start < o.bits ? o.a >> start : 0;
      if (length < 64) v &= (u64{1} << length) - 1;
      FlagOpResult r = result(v, false);
      r.status &= ~flag::SF;
      return r;
    }
  }
}

// --- operands

// What an instruction of the three-operand VEX forms and the others read and write.
template <unsigned k>
u64 source(Vcpu& cpu, const Insn& i, unsigned size, u64 implied) {
  if constexpr (k >= std::extent_v<decltype(Insn::op)>) return implied;
  if (k >= i.operand_count) return implied;
  return i.op[k].kind == OperandKind::gpr && i.op[k].size < size ? read_gpr(cpu.state, i.op[k])
                                                                 : read_operand(cpu, i, k);
}

void finish(Vcpu& cpu, const FlagOpResult& r) {
  cpu.state.rflags = (cpu.state.rflags & ~flag::kStatus) | (r.status & flag::kStatus);
}

// Destination first; `b` and `c` by operand index, where an index past the operands means the value is
// implied.
template <unsigned kSourceB, unsigned kSourceC>
void read_modify_write(Vcpu& cpu, const Insn& i) {
  const unsigned size = i.op[0].size;
  const bool to_memory = i.op[0].kind == OperandKind::mem;
  Gva at;
  u64 a = 0;
  if (to_memory) {
    const bool writes = i.mnemonic != ZYDIS_MNEMONIC_BT && i.mnemonic != ZYDIS_MNEMONIC_TEST;
    at = aligned_operand_address(cpu, i, size, writes ? Access::write : Access::read);
    if (writes) cpu.mmu.probe(at, size, Access::write);
    cpu.mmu.read_bytes(at, &a, size);
  } else {
    a = read_gpr(cpu.state, i.op[0]);
  }
  const u64 b = source<kSourceB>(cpu, i, size, 1);
  const u64 c = source<kSourceC>(cpu, i, size, 0);
  const FlagOpResult r =
      compute_flag_op(i.mnemonic, size, a, b, c, cpu.state.rflags, i.imm_offset && !to_memory);
  if (r.writes) {
    if (to_memory)
      cpu.mmu.write_bytes(at, &r.value, size);
    else
      write_gpr(cpu.state, i.op[0], r.value);
  }
  finish(cpu, r);
}

// op[0] = f(op[A], op[B]); A or B past the operands: unused.
template <unsigned kA, unsigned kB>
void write_only(Vcpu& cpu, const Insn& i) {
  const unsigned size = i.op[0].size;
  const u64 a = kA < i.operand_count ? read_operand(cpu, i, kA) : 0;
  const u64 b = read_operand(cpu, i, kB);
  const FlagOpResult r = compute_flag_op(i.mnemonic, size, a, b, 0, cpu.state.rflags);
  if (r.writes) write_gpr(cpu.state, i.op[0], r.value);
  finish(cpu, r);
}

// The operand that is named, of the one-operand forms, whose accumulator is implied.
void accumulate(Vcpu& cpu, const Insn& i) {
  CpuState& s = cpu.state;
  unsigned named = 0;
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].field == Field::modrm_rm) named = k;
  const unsigned size = i.op[named].size;
  const u64 b = read_operand(cpu, i, named);
  const Operand low{.kind = OperandKind::gpr, .size = static_cast<u8>(size), .reg = RAX};
  Operand high{.kind = OperandKind::gpr, .size = static_cast<u8>(size), .reg = RDX};
  if (size == 1) high.reg = RAX, high.high = true;
  const FlagOpResult r = compute_flag_op(i.mnemonic, size, read_gpr(s, low), b, read_gpr(s, high), s.rflags);
  write_gpr(s, low, r.value);
  write_gpr(s, high, r.high);
  finish(cpu, r);
}

}  // namespace

FlagOpResult compute_flag_op(ZydisMnemonic m, unsigned size, u64 a, u64 b, u64 c, u64 status,
                             bool immediate) {
  const unsigned bits = size * 8;
  const u64 mask = mask_of(bits);
  const Operation o{bits,     mask,     u64{1} << (bits - 1),   a & mask,
                    b & mask, c & mask, status & flag::kStatus, immediate};
  switch (m) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
      return shift(m, o);
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
      return rotate(m, o);
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      return double_shift(m, o);
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
      return multiply(m, o);
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
      return divide(m, o);
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT:
      return scan(m, o);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
      return bit_test(m, o);
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
      return logic(m, o);
    default:
      return bmi(m, o);
  }
}

Helper find_flag_helper(const Insn& i) {
  constexpr unsigned kNone = 4;
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
      return read_modify_write<1, kNone>;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      return read_modify_write<2, 1>;
    case ZYDIS_MNEMONIC_IMUL:
      if (i.opcode == 0xf6 || i.opcode == 0xf7) return accumulate;
      return i.operand_count == 3 ? write_only<1, 2> : write_only<0, 1>;
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
      return accumulate;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BLSMSK:
      return write_only<kNone, 1>;
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BZHI:
      return write_only<1, 2>;
    default:
      return nullptr;
  }
}

}  // namespace deja
