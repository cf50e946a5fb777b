// Floating-point numbers of 192 bits in integer arithmetic, and the elementary functions of the x87 on them.
//
// The x87 transcendentals differ between CPU makers and generations, so they are computed here, alike on
// every host: results carry at least 180 good bits, which a rounding to 64 bits makes the correctly rounded
// result. No library is used, since recordings must outlive its versions, and no floating-point register or
// rounding mode.
#pragma once

#include "base/types.h"

namespace deja {

// ± 0.m * 2^exponent with m read as a binary fraction whose first bit is set; zero has all of m clear.
struct BigFloat {
  static constexpr unsigned kLimbs = 3;
  bool negative = false;
  i32 exponent = 0;
  u64 m[kLimbs] = {};  // least significant first

  bool zero() const { return m[kLimbs - 1] == 0; }
};

BigFloat make_bigfloat(u64 integer, i32 scale = 0);  // integer * 2^scale
BigFloat negated(BigFloat a);
BigFloat scaled(BigFloat a, i32 power);  // a * 2^power
// All truncate towards zero in the last bit of m.
BigFloat operator+(const BigFloat& a, const BigFloat& b);
BigFloat operator-(const BigFloat& a, const BigFloat& b);
BigFloat operator*(const BigFloat& a, const BigFloat& b);
BigFloat operator/(const BigFloat& a, const BigFloat& b);  // b is not zero
// -1, 0, 1 as |a| is less than, equal to or greater than |b|.
int compare_magnitude(const BigFloat& a, const BigFloat& b);

struct SinCos {
  BigFloat sin, cos;
};
// The angle significand * 2^scale, below 2^63 in magnitude and not zero. Reduced by the true pi.
SinCos big_sincos(u64 significand, i32 scale);
BigFloat big_tan(u64 significand, i32 scale);
// Angle of the point (x, y); neither is zero.
BigFloat big_atan2(const BigFloat& y, const BigFloat& x);
BigFloat big_pi();
BigFloat big_log2(const BigFloat& x);     // x > 0; exact for powers of two
BigFloat big_log2_1p(const BigFloat& x);  // log2(1 + x), x > -1 and not zero
BigFloat big_exp2_m1(const BigFloat& x);  // 2^x - 1, 0 < |x| < 1

}  // namespace deja
