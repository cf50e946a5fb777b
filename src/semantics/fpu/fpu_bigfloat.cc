#include "semantics/fpu/fpu_bigfloat.h"

namespace deja {
namespace {

constexpr unsigned kLimbs = BigFloat::kLimbs;
constexpr int kBits = 64 * kLimbs;

const BigFloat kPi = {false, 2, {0x29024e088a67cc74, 0xc4c6628b80dc1cd1, 0xc90fdaa22168c234}};
const BigFloat kLn2 = {false, 0, {0x40f343267298b62d, 0xc9e3b39803f2f6af, 0xb17217f7d1cf79ab}};
const BigFloat kLog2E = {false, 1, {0xeb577aa8dd695a58, 0xbe87fed0691d3e88, 0xb8aa3b295c17f0bb}};
// floor(2/pi * 2^320), least significant limb first.
constexpr u64 kTwoOverPi[5] = {0xb7246e3a424dd2e0, 0xfe5163abdebbc561, 0xdb6295993c439041, 0xfc2757d1f534ddc0,
                               0xa2f9836e4e441529};
const BigFloat kOne = {false, 1, {0, 0, u64{1} << 63}};

// Below this exponent x^2 is lost against 1 in kBits; the functions then are x itself, but for the direction
// in which they miss it, which directed rounding wants to know.
constexpr i32 kTinyExponent = -90;

int compare_limbs(const u64* a, const u64* b) {
  for (int i = kLimbs - 1; i >= 0; --i)
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  return 0;
}

u64 add_limbs(u64* a, const u64* b) {
  u64 carry = 0;
  for (unsigned i = 0; i < kLimbs; ++i) {
    const u128 sum = u128{a[i]} + b[i] + carry;
    a[i] = static_cast<u64>(sum);
    carry = static_cast<u64>(sum >> 64);
  }
  return carry;
}

void sub_limbs(u64* a, const u64* b) {
  u64 borrow = 0;
  for (unsigned i = 0; i < kLimbs; ++i) {
    const u128 difference = u128{a[i]} - b[i] - borrow;
    a[i] = static_cast<u64>(difference);
    borrow = static_cast<u64>(difference >> 64) & 1;
  }
}

void shift_right(u64* a, int count) {
  if (count >= kBits) {
    for (unsigned i = 0; i < kLimbs; ++i) a[i] = 0;
    return;
  }
  const unsigned limbs = static_cast<unsigned>(count) / 64, bits = static_cast<unsigned>(count) % 64;
  for (unsigned i = 0; i < kLimbs; ++i) {
    const u64 low = i + limbs < kLimbs ? a[i + limbs] : 0;
    const u64 high = i + limbs + 1 < kLimbs ? a[i + limbs + 1] : 0;
    a[i] = bits ? low >> bits | high << (64 - bits) : low;
  }
}

// The normalised number whose fraction is the `count` limbs at `from` (least significant first, read as
// 0.xxx).
BigFloat normalized(const u64* from, int count, i32 exponent, bool negative) {
  int top = count - 1;
  while (top >= 0 && !from[top]) --top;
  BigFloat r;
  if (top < 0) return r;
  const unsigned bits = static_cast<unsigned>(__builtin_clzll(from[top]));
  for (int i = 0; i < static_cast<int>(kLimbs); ++i) {
    const int at = top - i;
    const u64 high = at >= 0 ? from[at] : 0;
    const u64 low = at >= 1 ? from[at - 1] : 0;
    r.m[kLimbs - 1 - static_cast<unsigned>(i)] = bits ? high << bits | low >> (64 - bits) : high;
  }
  r.exponent = exponent - 64 * (count - 1 - top) - static_cast<i32>(bits);
  r.negative = negative;
  return r;
}

// |a| + |b|, and |a| - |b| for |a| >= |b|; the sign is a's.
BigFloat add_magnitudes(const BigFloat& big, const BigFloat& small) {
  BigFloat r = big;
  BigFloat s = small;
  shift_right(s.m, r.exponent - s.exponent);
  if (add_limbs(r.m, s.m)) {
    shift_right(r.m, 1);
    r.m[kLimbs - 1] |= u64{1} << 63;
    ++r.exponent;
  }
  return r;
}

BigFloat sub_magnitudes(const BigFloat& big, const BigFloat& small) {
  BigFloat r = big;
  BigFloat s = small;
  shift_right(s.m, r.exponent - s.exponent);
  sub_limbs(r.m, s.m);
  return normalized(r.m, kLimbs, r.exponent, r.negative);
}

BigFloat divided(const BigFloat& a, u64 n) {
  u64 quotient[kLimbs + 1];
  u64 remainder = 0;
  for (int i = kLimbs; i >= 0; --i) {
    const u128 part = u128{remainder} << 64 | (i ? a.m[i - 1] : 0);
    quotient[i] = static_cast<u64>(part / n);
    remainder = static_cast<u64>(part % n);
  }
  return normalized(quotient, kLimbs + 1, a.exponent, a.negative);
}

// The neighbour of a nearer to zero, or farther from it.
BigFloat just_below(const BigFloat& a) {
  constexpr u64 one[kLimbs] = {1};
  BigFloat r = a;
  sub_limbs(r.m, one);
  if (!(r.m[kLimbs - 1] >> 63)) {  // a was a power of two
    for (u64& limb : r.m) limb = ~u64{0};
    --r.exponent;
  }
  return r;
}

BigFloat just_above(const BigFloat& a) {
  BigFloat r = a;
  r.m[0] |= 1;
  return r;
}

bool negligible(const BigFloat& term, const BigFloat& sum) {
  return term.zero() || term.exponent < sum.exponent - kBits;
}

// Taylor series of sine (start = x, first = 2) and cosine (start = 1, first = 1) for |x| <= pi/4.
BigFloat circular_series(const BigFloat& start, const BigFloat& x, u64 first) {
  const BigFloat square = negated(x * x);
  BigFloat sum = start, term = start;
  for (u64 k = first;; k += 2) {
    term = divided(term * square, k * (k + 1));
    if (negligible(term, sum)) return sum;
    sum = sum + term;
  }
}

// x + x^3/3 + x^5/5 + … with all signs alike (atanh) or alternating (atan).
BigFloat odd_series(const BigFloat& x, bool alternating) {
  BigFloat square = x * x;
  square.negative = alternating;
  BigFloat sum = x, power = x;
  for (u64 k = 3;; k += 2) {
    power = power * square;
    const BigFloat term = divided(power, k);
    if (negligible(term, sum)) return sum;
    sum = sum + term;
  }
}

// atan(t) for 0 < t <= 1.
BigFloat atan_unit(const BigFloat& t) {
  if (t.exponent < kTinyExponent) return just_below(t);
  // Above tan(pi/8), about 0.4142, turn by pi/4.
  constexpr u64 kTanPiOver8 = 0xd413cccfe7799211;  // * 2^-65
  if (compare_magnitude(t, make_bigfloat(kTanPiOver8, -65)) > 0) {
    const BigFloat turned = (t - kOne) / (t + kOne);
    const BigFloat quarter = scaled(kPi, -2);
    return turned.zero() ? quarter : quarter + odd_series(turned, true);
  }
  return odd_series(t, true);
}

// The angle modulo pi/2 in [-pi/4, pi/4] and the number of quarter turns taken off, modulo 4.
struct Reduced {
  BigFloat angle;
  unsigned quadrant;
};

Reduced reduce_angle(u64 significand, i32 scale) {
  const BigFloat x = make_bigfloat(significand, scale);
  if (x.exponent < 0) return {x, 0};  // below 1/2
  // x * 2/pi as a fixed-point number with 320 - x_scale fraction bits in 6 limbs, where x = M * 2^x_scale
  // with a normalised M, -64 <= x_scale <= -1. An angle this near a multiple of pi/2 keeps 190 significant
  // bits.
  const u64 normalized_significand = x.m[kLimbs - 1];
  const i32 x_scale = x.exponent - 64;
  u64 product[6] = {};
  u64 carry = 0;
  for (unsigned i = 0; i < 5; ++i) {
    const u128 p = u128{kTwoOverPi[i]} * normalized_significand + carry;
    product[i] = static_cast<u64>(p);
    carry = static_cast<u64>(p >> 64);
  }
  product[5] = carry;
  // The highest limb holds the integer part in its upper bits: 384 - (320 - x_scale) of them, 0 to 63.
  const unsigned integer_bits = static_cast<unsigned>(64 + x_scale);
  u64 turns = integer_bits ? product[5] >> (64 - integer_bits) : 0;
  // Left-align the fraction.
  u64 fraction[6];
  for (int i = 5; i >= 0; --i)
    fraction[i] = integer_bits ? product[i] << integer_bits | (i ? product[i - 1] >> (64 - integer_bits) : 0)
                               : product[i];
  const bool negative = fraction[5] >> 63;
  if (negative) {
    ++turns;
    u64 borrow = 1;
    for (u64& limb : fraction) {
      limb = ~limb + borrow;
      borrow = borrow && limb == 0;
    }
  }
  const BigFloat quarter_turns = normalized(fraction, 6, 0, negative);
  return {quarter_turns * scaled(kPi, -1), static_cast<unsigned>(turns & 3)};
}

}  // namespace

BigFloat make_bigfloat(u64 integer, i32 scale) { return normalized(&integer, 1, scale + 64, false); }

BigFloat negated(BigFloat a) {
  a.negative = !a.negative;
  return a;
}

BigFloat scaled(BigFloat a, i32 power) {
  a.exponent += power;
  return a;
}

int compare_magnitude(const BigFloat& a, const BigFloat& b) {
  if (a.zero() || b.zero()) return static_cast<int>(b.zero()) - static_cast<int>(a.zero());
  if (a.exponent != b.exponent) return a.exponent < b.exponent ? -1 : 1;
  return compare_limbs(a.m, b.m);
}

BigFloat operator+(const BigFloat& a, const BigFloat& b) {
  if (a.zero()) return b;
  if (b.zero()) return a;
  const bool a_bigger = compare_magnitude(a, b) >= 0;
  const BigFloat& big = a_bigger ? a : b;
  const BigFloat& small = a_bigger ? b : a;
  return a.negative == b.negative ? add_magnitudes(big, small) : sub_magnitudes(big, small);
}

BigFloat operator-(const BigFloat& a, const BigFloat& b) { return a + negated(b); }

BigFloat operator*(const BigFloat& a, const BigFloat& b) {
  u64 product[2 * kLimbs] = {};
  for (unsigned i = 0; i < kLimbs; ++i) {
    u64 carry = 0;
    for (unsigned j = 0; j < kLimbs; ++j) {
      const u128 p = u128{a.m[i]} * b.m[j] + product[i + j] + carry;
      product[i + j] = static_cast<u64>(p);
      carry = static_cast<u64>(p >> 64);
    }
    product[i + kLimbs] = carry;
  }
  return normalized(product, 2 * kLimbs, a.exponent + b.exponent, a.negative != b.negative);
}

BigFloat operator/(const BigFloat& a, const BigFloat& b) {
  BigFloat r;
  if (a.zero()) return r;
  // The quotient of the fractions is below 2; halve the dividend where that makes it a fraction again. Then
  // divide limb by limb (Knuth, The Art of Computer Programming, vol. 2, 4.3.1, algorithm D).
  const unsigned halved = compare_limbs(a.m, b.m) >= 0;
  r.negative = a.negative != b.negative;
  r.exponent = a.exponent - b.exponent + static_cast<i32>(halved);
  u64 rest[kLimbs + 1] = {};
  for (unsigned i = 0; i < kLimbs; ++i) rest[i] = a.m[i];
  u64 shifted_out = 0;
  if (halved) {
    shifted_out = rest[0] << 63;
    shift_right(rest, 1);
  }
  const u64 divisor_top = b.m[kLimbs - 1];
  for (unsigned digit = kLimbs; digit-- > 0;) {
    for (unsigned i = kLimbs; i > 0; --i) rest[i] = rest[i - 1];
    rest[0] = digit == kLimbs - 1 ? shifted_out : 0;
    u64 q = ~u64{0};
    if (rest[kLimbs] < divisor_top)
      q = static_cast<u64>((u128{rest[kLimbs]} << 64 | rest[kLimbs - 1]) / divisor_top);
    // rest -= q * b; the estimate is at most two too large.
    u64 carry = 0, borrow = 0;
    for (unsigned i = 0; i <= kLimbs; ++i) {
      const u128 product = u128{i < kLimbs ? b.m[i] : 0} * q + carry;
      carry = static_cast<u64>(product >> 64);
      const u128 difference = u128{rest[i]} - static_cast<u64>(product) - borrow;
      rest[i] = static_cast<u64>(difference);
      borrow = static_cast<u64>(difference >> 64) & 1;
    }
    while (borrow) {
      --q;
      const u64 top_carry = add_limbs(rest, b.m);
      rest[kLimbs] += top_carry;
      borrow = !(top_carry && rest[kLimbs] == 0);
    }
    r.m[digit] = q;
  }
  return r;
}

SinCos big_sincos(u64 significand, i32 scale) {
  const Reduced r = reduce_angle(significand, scale);
  SinCos s;
  if (r.angle.exponent < kTinyExponent) {
    s = {just_below(r.angle), just_below(kOne)};
  } else {
    s = {circular_series(r.angle, r.angle, 2), circular_series(kOne, r.angle, 1)};
  }
  switch (r.quadrant) {
    case 1:
      return {s.cos, negated(s.sin)};
    case 2:
      return {negated(s.sin), negated(s.cos)};
    case 3:
      return {negated(s.cos), s.sin};
    default:
      return s;
  }
}

BigFloat big_tan(u64 significand, i32 scale) {
  const BigFloat x = make_bigfloat(significand, scale);
  if (x.exponent < kTinyExponent) return just_above(x);
  const SinCos s = big_sincos(significand, scale);
  return s.sin / s.cos;
}

BigFloat big_atan2(const BigFloat& y, const BigFloat& x) {
  BigFloat ay = y, ax = x;
  ay.negative = ax.negative = false;
  BigFloat angle = compare_magnitude(ay, ax) <= 0 ? atan_unit(ay / ax) : scaled(kPi, -1) - atan_unit(ax / ay);
  if (x.negative) angle = kPi - angle;
  angle.negative = y.negative;
  return angle;
}

BigFloat big_pi() { return kPi; }

BigFloat big_log2(const BigFloat& x) {
  // x = m * 2^e with m between sqrt(1/2) and sqrt(2); log2 x = e + 2 atanh((m - 1) / (m + 1)) / ln 2.
  constexpr u64 kSqrtHalf = 0xb504f333f9de6484;
  BigFloat m = x;
  m.exponent = x.m[kLimbs - 1] < kSqrtHalf ? 1 : 0;
  const i32 e = x.exponent - m.exponent;
  BigFloat whole = make_bigfloat(static_cast<u64>(e < 0 ? -e : e));
  whole.negative = e < 0;
  const BigFloat s = (m - kOne) / (m + kOne);
  if (s.zero()) return whole;
  return whole + scaled(odd_series(s, false), 1) * kLog2E;
}

BigFloat big_log2_1p(const BigFloat& x) {
  if (x.exponent > -2) return big_log2(kOne + x);  // |x| >= 1/4: 1 + x loses nothing that matters
  const BigFloat s = x / (scaled(kOne, 1) + x);
  return scaled(odd_series(s, false), 1) * kLog2E;
}

BigFloat big_exp2_m1(const BigFloat& x) {
  const BigFloat t = x * kLn2;
  BigFloat sum = t, term = t;
  for (u64 k = 2;; ++k) {
    term = divided(term * t, k);
    if (negligible(term, sum)) return sum;
    sum = sum + term;
  }
}

}  // namespace deja
