// FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1: correctly rounded, which no hardware promises
// and which is therefore one fixed result. Exceptions and special operands follow SDM vol. 1 8.5 and the
// tables of vol. 2.
//
// Where the manual leaves the result open we do as Intel's hardware does: F2XM1 beyond ±1 and FYL2XP1 at or
// below -1 give back the source operand with PE. Condition codes that it leaves undefined keep their values.
#include <cstring>

#include "semantics/fpu/fpu_extended.h"
#include "semantics/fpu/fpu_helpers.h"

namespace deja {
namespace {

using enum ExtendedClass;

// --- The register stack.

Extended read_st(const FpuState& f, unsigned i) {
  Extended x;
  std::memcpy(&x.significand, f.st[i], 8);
  std::memcpy(&x.sign_exponent, f.st[i] + 8, 2);
  return x;
}

u8 tag_bit(const FpuState& f, unsigned i) { return static_cast<u8>(1u << ((x87_top(f) + i) & 7)); }
bool empty(const FpuState& f, unsigned i) { return !(f.ftw & tag_bit(f, i)); }

void write_st(FpuState& f, unsigned i, const Extended& x) {
  std::memcpy(f.st[i], &x.significand, 8);
  std::memcpy(f.st[i] + 8, &x.sign_exponent, 2);
  f.ftw |= tag_bit(f, i);
}

void push(FpuState& f, const Extended& x) {
  x87_set_top(f, x87_top(f) - 1);
  write_st(f, 0, x);
}

void pop(FpuState& f) {
  f.ftw &= static_cast<u8>(~tag_bit(f, 0));
  x87_set_top(f, x87_top(f) + 1);
}

// Sets exception flags; true when one of them is unmasked.
bool raise(FpuState& f, u16 flags) {
  f.fsw |= flags;
  const bool unmasked = flags & ~f.fcw & fsw::kExceptions;
  if (unmasked) f.fsw |= fsw::ES | fsw::B;
  return unmasked;
}

// --- One operation.

// What an operation yields: flags as in FSW, OE, UE and PE already in accord with the masks.
struct Outcome {
  Extended value;
  u16 flags = 0;
  bool up = false;

  // NOLINTBEGIN(google-explicit-constructor): functions return either
  Outcome(const Extended& v, u16 fl = 0) : value(v), flags(fl) {}
  Outcome(const Rounded& r) : value(r.value), flags(r.flags), up(r.up) {}
  // NOLINTEND(google-explicit-constructor)
};

Outcome invalid() { return {kDefaultNan, fsw::IE}; }
bool is_nan(ExtendedClass c) { return c == qnan || c == snan; }

// The masked response to NaN operands (SDM vol. 1 table 4-7, x87 rows).
Extended propagate_nan(const Extended& a, const Extended& b) {
  constexpr u64 kQuiet = u64{1} << 62;
  const ExtendedClass ca = classify(a), cb = classify(b);
  const Extended qa = {a.significand | kQuiet, a.sign_exponent},
                 qb = {b.significand | kQuiet, b.sign_exponent};
  if (!is_nan(ca)) return qb;
  if (!is_nan(cb)) return qa;
  if (ca != cb) return ca == qnan ? qa : qb;
  if (a.significand != b.significand) return a.significand > b.significand ? qa : qb;
  return is_negative(a) ? qb : qa;
}

// IE and NaN for operands on which no function is evaluated; false for proper numbers.
bool special_operand(const Extended& x, const Extended& y, Outcome* out) {
  const ExtendedClass cx = classify(x), cy = classify(y);
  if (cx == unsupported || cy == unsupported) {
    *out = invalid();
    return true;
  }
  if (!is_nan(cx) && !is_nan(cy)) return false;
  *out = {propagate_nan(x, y), cx == snan || cy == snan ? fsw::IE : u16{0}};
  return true;
}

// Records the exceptions of an operation; false when an unmasked one keeps the operands as they are.
bool accept(FpuState& f, const Outcome& out, bool denormal_operand) {
  if (out.flags & (fsw::IE | fsw::ZE)) return !raise(f, out.flags);
  if (denormal_operand && raise(f, fsw::DE)) return false;
  raise(f, out.flags);
  if (out.up) f.fsw |= fsw::C1;
  return true;
}

bool denormal_number(const Extended& x, const Extended& y) {
  const ExtendedClass cx = classify(x), cy = classify(y);
  return !is_nan(cx) && !is_nan(cy) && (cx == denormal || cy == denormal);
}

void begin(Vcpu& cpu) {
  check_x87_available(cpu);
  cpu.fpu_to_memory(cpu);
  check_x87_exception(cpu);
  cpu.state.fpu.fsw &= static_cast<u16>(~fsw::C1);
}

using Function1 = Outcome (*)(const Extended& x, u16 fcw);
using Function2 = Outcome (*)(const Extended& x, const Extended& y, u16 fcw);

// ST(0) = f(ST(0)).
template <Function1 function>
void unary(Vcpu& cpu, const Insn&) {
  begin(cpu);
  FpuState& f = cpu.state.fpu;
  if (empty(f, 0)) {
    if (!raise(f, fsw::IE | fsw::SF)) write_st(f, 0, kDefaultNan);
  } else {
    const Extended x = read_st(f, 0);
    Outcome out = x;
    if (!special_operand(x, x, &out)) out = function(x, f.fcw);
    if (accept(f, out, denormal_number(x, x))) write_st(f, 0, out.value);
  }
  cpu.fpu_from_memory(cpu);
}

// ST(1) = f(ST(0), ST(1)), pop.
template <Function2 function>
void binary_pop(Vcpu& cpu, const Insn&) {
  begin(cpu);
  FpuState& f = cpu.state.fpu;
  Outcome out = kDefaultNan;
  bool store;
  if (empty(f, 0) || empty(f, 1)) {
    store = !raise(f, fsw::IE | fsw::SF);
  } else {
    const Extended x = read_st(f, 0), y = read_st(f, 1);
    if (!special_operand(x, y, &out)) out = function(x, y, f.fcw);
    store = accept(f, out, denormal_number(x, y));
  }
  if (store) {
    write_st(f, 1, out.value);
    pop(f);
  }
  cpu.fpu_from_memory(cpu);
}

// --- Trigonometry.

// FSIN and kin reduce |x| < 2^63 only; beyond, C2 is set and nothing else happens.
bool out_of_range(const Extended& x) {
  const unsigned exponent = x.sign_exponent & 0x7fff;
  return classify(x) == normal && exponent >= 0x3fff + 63;
}

struct Trigonometric {
  Outcome first;   // replaces ST(0)
  Outcome second;  // FSINCOS, FPTAN: pushed
};

Outcome rounded(BigFloat v, bool flip_sign, u16 fcw) {
  v.negative ^= flip_sign;
  return round_extended(v, fcw);
}

Trigonometric sine(const Extended& x, u16 fcw) {
  if (classify(x) == zero) return {x, x};
  const Outcome out = rounded(big_sincos(x.significand, scale_of(x)).sin, is_negative(x), fcw);
  return {out, out};
}

Trigonometric cosine(const Extended& x, u16 fcw) {
  if (classify(x) == zero) return {make_one(false), make_one(false)};
  const Outcome out = rounded(big_sincos(x.significand, scale_of(x)).cos, false, fcw);
  return {out, out};
}

Trigonometric sine_cosine(const Extended& x, u16 fcw) { return {sine(x, fcw).first, cosine(x, fcw).first}; }

Trigonometric tangent(const Extended& x, u16 fcw) {
  if (classify(x) == zero) return {x, make_one(false)};
  return {rounded(big_tan(x.significand, scale_of(x)), is_negative(x), fcw), make_one(false)};
}

template <Trigonometric (*function)(const Extended& x, u16 fcw), bool pushes>
void trigonometric(Vcpu& cpu, const Insn&) {
  begin(cpu);
  FpuState& f = cpu.state.fpu;
  const auto store = [&](const Extended& first, const Extended& second) {
    write_st(f, 0, first);
    if (pushes) push(f, second);
  };
  f.fsw &= static_cast<u16>(~fsw::C2);
  const Extended x = read_st(f, 0);
  if (empty(f, 0) || (pushes && !empty(f, 7))) {
    // Stack underflow (C1 clear) or overflow (C1 set).
    const u16 overflow = empty(f, 0) ? 0 : fsw::C1;
    if (!raise(f, fsw::IE | fsw::SF | overflow)) store(kDefaultNan, kDefaultNan);
  } else if (out_of_range(x)) {
    f.fsw |= fsw::C2;
  } else {
    Outcome out = x;
    if (special_operand(x, x, &out) || classify(x) == infinity) {
      if (classify(x) == infinity) out = invalid();
      if (accept(f, out, false)) store(out.value, out.value);
    } else {
      const Trigonometric t = function(x, f.fcw);
      out = t.first;
      out.flags |= t.second.flags;
      if (accept(f, out, classify(x) == denormal)) store(t.first.value, t.second.value);
    }
  }
  cpu.fpu_from_memory(cpu);
}

// The angle of (x, y): SDM vol. 2, table 3-31.
Outcome arctangent(const Extended& x, const Extended& y, u16 fcw) {
  const ExtendedClass cx = classify(x), cy = classify(y);
  const auto pi_times = [&](u64 n, i32 power) {
    return rounded(scaled(big_pi() * make_bigfloat(n), power), is_negative(y), fcw);
  };
  if (cy == zero || (cx == infinity && cy != infinity))
    return is_negative(x) ? pi_times(1, 0) : Outcome(make_zero(is_negative(y)));
  if (cy == infinity && cx == infinity) return is_negative(x) ? pi_times(3, -2) : pi_times(1, -2);
  if (cy == infinity || cx == zero) return pi_times(1, -1);
  return round_extended(big_atan2(to_bigfloat(y), to_bigfloat(x)), fcw);
}

// --- Exponential and logarithms.

Outcome exp2_minus_1(const Extended& x, u16 fcw) {
  const bool negative = is_negative(x);
  const ExtendedClass c = classify(x);
  if (c == zero) return x;
  if (c == infinity) return negative ? make_one(true) : x;
  const BigFloat v = to_bigfloat(x);
  const int against_one = compare_magnitude(v, make_bigfloat(1));
  if (against_one > 0) return {x, fsw::PE};
  if (against_one == 0) return negative ? Extended{u64{1} << 63, 0xbffe} : x;  // -1/2 and 1
  return round_extended(big_exp2_m1(v), fcw);
}

// y * log2(x): SDM vol. 2, table 3-44.
Outcome y_log2_x(const Extended& x, const Extended& y, u16 fcw) {
  const ExtendedClass cx = classify(x), cy = classify(y);
  const bool y_negative = is_negative(y);
  if (cx == zero) {
    if (cy == zero) return invalid();
    return {make_infinity(!y_negative), cy == infinity ? u16{0} : fsw::ZE};
  }
  if (is_negative(x)) return invalid();
  if (cx == infinity) return cy == zero ? invalid() : Outcome(make_infinity(y_negative));
  const int against_one = compare_magnitude(to_bigfloat(x), make_bigfloat(1));
  if (against_one == 0) return cy == infinity ? invalid() : Outcome(make_zero(y_negative));
  const bool negative = y_negative != (against_one < 0);
  if (cy == infinity) return make_infinity(negative);
  if (cy == zero) return make_zero(negative);
  return round_extended(to_bigfloat(y) * big_log2(to_bigfloat(x)), fcw);
}

// y * log2(x + 1): SDM vol. 2, table 3-45.
Outcome y_log2_x_plus_1(const Extended& x, const Extended& y, u16 fcw) {
  const ExtendedClass cx = classify(x), cy = classify(y);
  const bool negative = is_negative(x) != is_negative(y);
  if (cx == infinity) {
    if (is_negative(x) || cy == zero) return invalid();
    return make_infinity(negative);
  }
  if (cx == zero) return cy == infinity ? invalid() : Outcome(make_zero(negative));
  if (cy == infinity) return make_infinity(negative);
  if (cy == zero) return make_zero(negative);
  const BigFloat v = to_bigfloat(x);
  if (v.negative && compare_magnitude(v, make_bigfloat(1)) >= 0) return {x, fsw::PE};
  return round_extended(to_bigfloat(y) * big_log2_1p(v), fcw);
}

}  // namespace

Helper find_x87_transcendental_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_FSIN:
      return trigonometric<sine, false>;
    case ZYDIS_MNEMONIC_FCOS:
      return trigonometric<cosine, false>;
    case ZYDIS_MNEMONIC_FSINCOS:
      return trigonometric<sine_cosine, true>;
    case ZYDIS_MNEMONIC_FPTAN:
      return trigonometric<tangent, true>;
    case ZYDIS_MNEMONIC_FPATAN:
      return binary_pop<arctangent>;
    case ZYDIS_MNEMONIC_F2XM1:
      return unary<exp2_minus_1>;
    case ZYDIS_MNEMONIC_FYL2X:
      return binary_pop<y_log2_x>;
    case ZYDIS_MNEMONIC_FYL2XP1:
      return binary_pop<y_log2_x_plus_1>;
    default:
      return nullptr;
  }
}

}  // namespace deja
