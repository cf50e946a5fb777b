// How many steps a slice of a live session has, so that it takes about a millisecond of host time: inputs are
// looked for between slices. Finds its size from how long the slices before took.
#pragma once

#include <algorithm>

#include "base/types.h"

namespace deja {

class SliceSize {
 public:
  static constexpr Step kLeast = 1000, kMost = 20'000'000;
  static constexpr u64 kSliceNs = 1'000'000;

  Step steps() const { return steps_; }

  // A slice ran so many steps in so much host time. One that ended early says little, and changes nothing.
  void ran(Step steps, u64 took_ns) {
    if (steps < kLeast) return;
    const auto fitting =
        static_cast<Step>(std::min<u128>(u128{steps} * kSliceNs / std::max<u64>(took_ns, 1), kMost));
    // Halfway there each time: one slow slice (translation, a busy host) should not make the next ones tiny.
    steps_ = std::clamp((steps_ + fitting) / 2, kLeast, kMost);
  }

 private:
  Step steps_ = kLeast;
};

}  // namespace deja
