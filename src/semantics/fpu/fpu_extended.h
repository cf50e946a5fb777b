// The 80-bit double-extended format (SDM vol. 1 4.2.2), taken apart and rounded to, under the x87's rules.
#pragma once

#include "base/types.h"
#include "semantics/fpu/fpu_bigfloat.h"

namespace deja {

struct Extended {
  u64 significand = 0;
  u16 sign_exponent = 0;  // sign in bit 15
};

inline constexpr Extended kDefaultNan = {u64{3} << 62, 0xffff};  // "QNaN floating-point indefinite"

enum class ExtendedClass : u8 { zero, denormal, normal, infinity, qnan, snan, unsupported };

ExtendedClass classify(const Extended& x);
inline bool is_negative(const Extended& x) { return x.sign_exponent >> 15; }
inline Extended with_sign(Extended x, bool negative) {
  x.sign_exponent = static_cast<u16>((x.sign_exponent & 0x7fff) | (negative ? 0x8000 : 0));
  return x;
}
inline Extended make_zero(bool negative) { return with_sign({0, 0}, negative); }
inline Extended make_infinity(bool negative) { return with_sign({u64{1} << 63, 0x7fff}, negative); }
inline Extended make_one(bool negative) { return with_sign({u64{1} << 63, 0x3fff}, negative); }
// Finite x = significand * 2^scale, sign apart.
i32 scale_of(const Extended& x);
BigFloat to_bigfloat(const Extended& x);  // zero, denormal or normal

struct Rounded {
  Extended value;
  u16 flags = 0;    // fsw:: OE, UE, PE
  bool up = false;  // magnitude rounded up: C1
};
// Rounds to 64 significand bits under FCW's rounding control. The flags take account of FCW's masks: an
// unmasked overflow or underflow gives a result scaled by 2^-24576 or 2^24576 (SDM vol. 1 8.5.4, 8.5.5).
Rounded round_extended(const BigFloat& x, u16 fcw);

}  // namespace deja
