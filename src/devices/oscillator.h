// Exact conversion between virtual time and the ticks of a fixed-frequency oscillator: integers only, no
// drift.
#pragma once

#include "base/types.h"

namespace deja {

inline constexpr u64 kNsPerSecond = 1'000'000'000;

struct Oscillator {
  u64 hz;

  // Whole ticks completed `t` after the oscillator started.
  u64 ticks(VtimeNs t) const {
    u64 product;
    if (!__builtin_mul_overflow(t, hz, &product)) return product / kNsPerSecond;
    return static_cast<u64>(u128{t} * hz / kNsPerSecond);
  }
  // The first nanosecond t with ticks(t) >= n; kNeverNs when that is out of the range of VtimeNs.
  VtimeNs time_of(u128 n) const {
    if (n >> 96) return kNeverNs;  // n * 10^9 below 2^126
    const u128 t = (n * kNsPerSecond + hz - 1) / hz;
    return t < kNeverNs ? static_cast<VtimeNs>(t) : kNeverNs;
  }
};

// a + b, where kNeverNs absorbs.
inline VtimeNs add_time(VtimeNs a, VtimeNs b) { return a < kNeverNs - b ? a + b : kNeverNs; }

}  // namespace deja
