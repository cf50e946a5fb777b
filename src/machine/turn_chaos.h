// How vCPUs take turns when races shall show: by lot, from a seed, instead of evenly and in order.
//
// A race strikes when turns change inside a window of a few instructions, or when one vCPU falls far behind.
// So the machine's time is cut into epochs of about a millisecond, each with a temper of its own: turns of a
// hundred steps in one and of twice the quantum in another, in some a vCPU that gets no turn while another
// can run, in some now and then a *stall*: the vCPU stands still while time goes on, as if its host had other
// things to do, so that timers interrupt places they would not otherwise. It is what `rr record --chaos` does
// to threads.
//
// Everything drawn is a function of the seed and the step, so there is no state to keep.
#pragma once

#include <algorithm>
#include <optional>

#include "base/types.h"

namespace deja {

class TurnChaos {
 public:
  explicit TurnChaos(u64 seed) : seed_(seed) {}

  // The turn that begins at `step` has so many steps: 1 up to twice the quantum.
  Step turn_length(Step step, Step quantum) const {
    const Step longest = std::max<Step>((2 * quantum) >> of_epoch(step, kTemper) % kTempers, kShortest);
    return 1 + draw(step, kLength) % longest;
  }
  // The vCPU of `n` that is asked first whether it can run.
  unsigned first_asked(Step step, unsigned n) const { return static_cast<unsigned>(draw(step, kOrder) % n); }
  // The vCPU of `n` that runs only when no other can.
  std::optional<unsigned> starved(Step step, unsigned n) const {
    const u64 lot = of_epoch(step, kStarved);
    if (n < 2 || lot % 2) return std::nullopt;
    return static_cast<unsigned>((lot >> 8) % n);
  }
  // How long the vCPU whose turn begins at `step` stands still first; mostly 0, at most about 4 ms.
  u64 stall_ns(Step step) const {
    constexpr u64 kLongest = u64{1} << 22;
    const u64 lot = draw(step, kStall);
    if (of_epoch(step, kStall) % 2 || lot % 16) return 0;
    return 1 + (lot >> 16) % (kLongest >> (lot >> 8) % 12);
  }

 private:
  static constexpr unsigned kEpochBits = 20;  // steps
  static constexpr u64 kTempers = 12;
  static constexpr Step kShortest = 16;
  enum Purpose : u64 { kTemper, kLength, kOrder, kStarved, kStall };

  // splitmix64 of seed, step and purpose.
  u64 draw(Step step, Purpose purpose) const {
    u64 x = seed_ + (step * 8 + purpose + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  u64 of_epoch(Step step, Purpose purpose) const {
    return TurnChaos(~seed_).draw(step >> kEpochBits, purpose);
  }

  u64 seed_;
};

}  // namespace deja
