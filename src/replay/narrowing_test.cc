#include "replay/narrowing.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace deja {
namespace {

using Found = Narrowing::Found;

// Machines that differ as `differ` says, from the step at which they are and the last stop before it.
struct FakePair : ComparedPair {
  std::function<bool(Step at, Step stop_before)> differ;
  Step at = 0;
  bool differs = false;

  explicit FakePair(std::function<bool(Step, Step)> d) : differ(std::move(d)) {}
  Status run_to(Step step) override {
    differs = differs || differ(step, at);
    at = step;
    return {};
  }
  bool same() override { return !differs; }
  bool stuck() const override { return false; }
};

Narrowing search(Step from, Step to, const std::function<bool(Step at, Step stop_before)>& differ) {
  const auto open = [&]() -> Result<std::unique_ptr<ComparedPair>> {
    return std::unique_ptr<ComparedPair>(std::make_unique<FakePair>(differ));
  };
  auto found = narrow(open, from, to, [](const std::string&) {});
  EXPECT_TRUE(found.ok());
  return found.value();
}

TEST(Narrowing, FindsTheStepOfAnOrdinaryMistake) {
  for (const Step wrong : {1u, 2u, 63u, 64u, 65u, 4096u, 999'999u, 1'000'000u}) {
    const Narrowing n = search(0, 1'000'000, [&](Step at, Step) { return at >= wrong; });
    EXPECT_EQ(n.found, Found::step);
    EXPECT_EQ(n.good, wrong - 1);
    EXPECT_EQ(n.bad, wrong);
  }
}

TEST(Narrowing, SaysWhenThereIsNoDifference) {
  const Narrowing n = search(10, 5000, [](Step, Step) { return false; });
  EXPECT_EQ(n.found, Found::nothing);
  EXPECT_EQ(n.good, 5000u);
}

TEST(Narrowing, SaysWhenTheStartDiffersAlready) {
  EXPECT_EQ(search(10, 5000, [](Step, Step) { return true; }).found, Found::at_start);
}

// A block is wrong that spans steps 70,000 to 70,020, and a stop in the 1000 steps before it has it cut
// otherwise.
bool wrong_unless_stopped_before(Step at, Step stop_before) { return at >= 70'003 && stop_before < 69'000; }

TEST(Narrowing, FindsAMistakeThatStopsOnTheWayHide) {
  const Narrowing n = search(0, 1'000'000, wrong_unless_stopped_before);
  EXPECT_EQ(n.found, Found::unstopped_step);
  EXPECT_EQ(n.good, 70'002u);
  EXPECT_EQ(n.bad, 70'003u);
}

TEST(Narrowing, FindsAMistakeThatNoStopShowsAtAll) {
  const Narrowing n =
      search(0, 1'000'000, [](Step at, Step stop) { return at >= 123'457 && stop == 0 && at > 1; });
  EXPECT_EQ(n.bad, 123'457u);
}

TEST(Narrowing, SaysWhenOnlyStopsMakeADifference) {
  // Long runs that begin behind a stop go wrong.
  const auto differ = [](Step at, Step stop) { return stop > 0 && at - stop > 10'000; };
  const Narrowing n = search(0, 1'000'000, differ);
  EXPECT_EQ(n.found, Found::only_if_stopped);
}

}  // namespace
}  // namespace deja
