#include "replay/stand_still.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

constexpr u64 kSecond = 1'000'000'000;

TEST(StandStill, AMachineGoesOnWhenBothReasonsAreGone) {
  FakeHostClock clock;
  clock.now_ns = 5;
  StandStill still(clock);
  EXPECT_FALSE(still);
  EXPECT_TRUE(still.pause());
  EXPECT_FALSE(still.pause()) << "it was paused already";
  EXPECT_TRUE(still.begin_trouble());
  EXPECT_FALSE(still.begin_trouble());
  EXPECT_TRUE(still.resume());
  EXPECT_FALSE(still.resume());
  EXPECT_TRUE(still) << "the host still refuses";
  still.end_trouble();
  EXPECT_FALSE(still);
}

// A person who pauses a machine that waits for the host does not make the wait begin anew.
TEST(StandStill, ItHasStoodStillSinceTheFirstReason) {
  FakeHostClock clock;
  clock.now_ns = 5;
  StandStill still(clock);
  still.begin_trouble();
  clock.now_ns = 9;
  still.pause();
  EXPECT_EQ(still.since_ns(), 5u);
  still.end_trouble();
  EXPECT_EQ(still.since_ns(), 5u);
}

TEST(StandStill, AHostThatRefusedIsAskedOnceASecond) {
  FakeHostClock clock;
  StandStill still(clock);
  EXPECT_EQ(still.next_retry_ns(), kNeverNs);
  EXPECT_FALSE(still.takes_retry());
  still.begin_trouble();
  EXPECT_EQ(still.next_retry_ns(), kSecond);
  EXPECT_FALSE(still.takes_retry());
  clock.now_ns = kSecond;
  EXPECT_TRUE(still.takes_retry());
  EXPECT_FALSE(still.takes_retry());
  EXPECT_EQ(still.next_retry_ns(), 2 * kSecond);
  still.end_trouble();
  EXPECT_EQ(still.next_retry_ns(), kNeverNs);
}

TEST(StandStill, WhatCameMeanwhileIsHandedOutOnceInItsOrder) {
  FakeHostClock clock;
  StandStill still(clock);
  still.hold(input::SerialBytes{0, "a"});
  still.hold(input::SerialBytes{0, "b"});
  const std::vector<HostInput> held = still.take_held();
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(std::get<input::SerialBytes>(held[0]).bytes, "a");
  EXPECT_TRUE(still.take_held().empty());
}

}  // namespace
}  // namespace deja
