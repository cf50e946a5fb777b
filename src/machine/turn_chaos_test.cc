#include "machine/turn_chaos.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace deja {
namespace {

constexpr Step kQuantum = 200'000;
constexpr Step kEpoch = 1 << 20;

TEST(TurnChaos, TurnsAndStallsStayInTheirBounds) {
  const TurnChaos chaos(1);
  for (Step step = 0; step < 100 * kEpoch; step += 9973) {
    EXPECT_GE(chaos.turn_length(step, kQuantum), 1u);
    EXPECT_LE(chaos.turn_length(step, kQuantum), 2 * kQuantum);
    EXPECT_GE(chaos.turn_length(step, 1), 1u);
    EXPECT_LE(chaos.stall_ns(step), u64{1} << 22);
    for (unsigned n = 1; n <= 16; ++n) {
      EXPECT_LT(chaos.first_asked(step, n), n);
      EXPECT_LT(chaos.starved(step, n).value_or(0), n);
    }
    EXPECT_FALSE(chaos.starved(step, 1)) << "a single vCPU runs";
  }
}

TEST(TurnChaos, ASeedAlwaysDrawsTheSameAndAnotherSomethingElse) {
  std::set<std::vector<Step>> schedules;
  for (u64 seed = 0; seed < 50; ++seed) {
    std::vector<Step> lengths;
    for (Step step = 0; step < 10; ++step) lengths.push_back(TurnChaos(seed).turn_length(step, kQuantum));
    schedules.insert(lengths);
    for (Step step = 0; step < 10; ++step)
      EXPECT_EQ(TurnChaos(seed).turn_length(step, kQuantum), lengths[step]);
  }
  EXPECT_EQ(schedules.size(), 50u);
}

TEST(TurnChaos, SomeEpochsHaveShortTurnsOnlyAndSomeStarveAVcpu) {
  const TurnChaos chaos(1);
  unsigned short_only = 0, starving = 0;
  for (Step epoch = 0; epoch < 100; ++epoch) {
    Step longest = 0;
    for (Step i = 0; i < 100; ++i)
      longest = std::max(longest, chaos.turn_length(epoch * kEpoch + i, kQuantum));
    short_only += longest < kQuantum / 100;
    const auto starved = chaos.starved(epoch * kEpoch, 4);
    starving += starved.has_value();
    EXPECT_EQ(starved, chaos.starved(epoch * kEpoch + kEpoch - 1, 4)) << "for the whole epoch";
  }
  EXPECT_GT(short_only, 10u);
  EXPECT_LT(short_only, 90u);
  EXPECT_GT(starving, 10u);
  EXPECT_LT(starving, 90u);
}

}  // namespace
}  // namespace deja
