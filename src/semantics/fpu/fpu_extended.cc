#include "semantics/fpu/fpu_extended.h"

#include "semantics/fpu/fpu_state.h"

namespace deja {
namespace {

constexpr i32 kBias = 16383;
constexpr i32 kWrap = 24576;  // 3 * 2^13

enum RoundingControl : unsigned { kNearest, kDown, kUp, kTowardsZero };  // FCW bits 11:10

struct Kept {
  u64 significand;
  bool inexact, up, carry;
};

// Rounds |x|.m, leaving out its lowest `dropped` bits (at least 128).
Kept round_bits(const BigFloat& x, i32 dropped, RoundingControl rc) {
  // Two things matter of the bits that go: the first (`half`), and whether any other is set (`sticky`).
  u64 kept;
  bool half, sticky = x.m[0] != 0;
  const i32 shift = dropped - 128;
  if (shift == 0) {
    kept = x.m[2];
    half = x.m[1] >> 63;
    sticky |= x.m[1] << 1 != 0;
  } else {
    kept = shift < 64 ? x.m[2] >> shift : 0;
    half = shift <= 64 && (x.m[2] >> (shift - 1)) & 1;
    sticky |= x.m[1] != 0 || shift > 64 || (x.m[2] & ((u64{1} << (shift - 1)) - 1)) != 0;
  }
  const bool inexact = half || sticky;
  bool up = false;
  switch (rc) {
    case kNearest:
      up = half && (sticky || (kept & 1));
      break;
    case kDown:
      up = inexact && x.negative;
      break;
    case kUp:
      up = inexact && !x.negative;
      break;
    case kTowardsZero:
      break;
  }
  kept += up;
  return {kept, inexact, up, up && kept == 0};
}

Extended assemble(bool negative, i32 exponent, u64 significand) {
  return with_sign({significand, static_cast<u16>(exponent)}, negative);
}

}  // namespace

ExtendedClass classify(const Extended& x) {
  const unsigned exponent = x.sign_exponent & 0x7fff;
  const bool integer_bit = x.significand >> 63;
  if (exponent == 0) return x.significand ? ExtendedClass::denormal : ExtendedClass::zero;
  if (!integer_bit) return ExtendedClass::unsupported;  // pseudo-NaN, pseudo-infinity, unnormal
  if (exponent != 0x7fff) return ExtendedClass::normal;
  if (x.significand << 1 == 0) return ExtendedClass::infinity;
  return x.significand >> 62 & 1 ? ExtendedClass::qnan : ExtendedClass::snan;
}

i32 scale_of(const Extended& x) {
  const i32 exponent = x.sign_exponent & 0x7fff;
  return (exponent ? exponent : 1) - kBias - 63;
}

BigFloat to_bigfloat(const Extended& x) {
  BigFloat r = make_bigfloat(x.significand, scale_of(x));
  r.negative = is_negative(x);
  return r;
}

Rounded round_extended(const BigFloat& x, u16 fcw) {
  const auto rc = static_cast<RoundingControl>(fcw >> 10 & 3);
  const i32 exponent = x.exponent - 1 + kBias;
  Kept k = round_bits(x, 128, rc);
  i32 rounded_exponent = exponent;
  if (k.carry) {
    k.significand = u64{1} << 63;
    ++rounded_exponent;
  }
  Rounded r;
  r.up = k.up;
  if (k.inexact) r.flags |= fsw::PE;
  if (rounded_exponent >= 0x7fff) {
    r.flags |= fsw::OE;
    if (!(fcw & fsw::OE)) {
      r.value = assemble(x.negative, rounded_exponent - kWrap, k.significand);
      return r;
    }
    r.flags |= fsw::PE;
    const bool to_infinity = rc == kNearest || rc == (x.negative ? kDown : kUp);
    r.up = to_infinity;
    r.value = to_infinity ? make_infinity(x.negative) : assemble(x.negative, 0x7ffe, ~u64{0});
    return r;
  }
  // Tininess is judged after rounding, as if the exponent were unbounded (SDM vol. 1 4.9.1.5).
  if (rounded_exponent >= 1) {
    r.value = assemble(x.negative, rounded_exponent, k.significand);
    return r;
  }
  if (!(fcw & fsw::UE)) {
    r.flags |= fsw::UE;
    r.value = assemble(x.negative, rounded_exponent + kWrap, k.significand);
    return r;
  }
  k = round_bits(x, 128 + 1 - exponent, rc);
  r.up = k.up;
  r.flags = k.inexact ? fsw::PE | fsw::UE : 0;
  r.value = assemble(x.negative, k.significand >> 63 ? 1 : 0, k.significand);
  return r;
}

}  // namespace deja
