#include "replay/pace.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

constexpr u64 kSecond = 1'000'000'000;

struct PaceTest : testing::Test {
  void SetUp() override {
    clock.now_ns = 50 * kSecond;
    pace.begin(3 * kSecond, 7 * kSecond);
  }
  FakeHostClock clock;
  Pace pace{clock};
};

TEST_F(PaceTest, VirtualTimeGoesOnWithHostTime) {
  EXPECT_EQ(pace.now(), 3 * kSecond);
  clock.now_ns += 2 * kSecond;
  EXPECT_EQ(pace.now(), 5 * kSecond);
  EXPECT_EQ(pace.host_ns(), 9 * kSecond);
  EXPECT_EQ(pace.host_time_of(6 * kSecond), clock.now_ns + kSecond);
}

TEST_F(PaceTest, NobodyMakesUpForTimeInWhichTheMachineStoodStill) {
  const u64 since = clock.now_ns;
  clock.now_ns += 100 * kSecond;
  pace.stood_still_since(since);
  EXPECT_EQ(pace.now(), 3 * kSecond);
  EXPECT_EQ(pace.host_ns(), 107 * kSecond) << "the session lasted all the same";
}

// A guest that is a second ahead sleeps for 8 ms: that sleep lasts 1 ms longer, and no more.
TEST_F(PaceTest, ASleepMakesUpForAnEighthOfItsLengthAtMost) {
  const u64 ms = 1'000'000;
  const VtimeNs now = 4 * kSecond;
  pace.fall_asleep(1000, now, 8 * ms);
  EXPECT_EQ(pace.host_time_of(now + 8 * ms), clock.now_ns + 9 * ms);
  // Woken early and asleep again at the same step: the same sleep.
  clock.now_ns += 5 * ms;
  pace.fall_asleep(1000, now, 8 * ms);
  EXPECT_EQ(pace.host_time_of(now + 8 * ms), clock.now_ns + 4 * ms);
}

TEST_F(PaceTest, AGuestThatIsBehindDoesNotSleepUntilItHasCaughtUp) {
  clock.now_ns += 10 * kSecond;
  pace.fall_asleep(1, 3 * kSecond, kSecond);
  EXPECT_LT(pace.host_time_of(4 * kSecond), clock.now_ns);
}

TEST_F(PaceTest, VirtualTimeIsNeverNegative) {
  pace.begin(0, 0);
  clock.now_ns -= kSecond;
  EXPECT_EQ(pace.now(), 0u);
}

}  // namespace
}  // namespace deja
