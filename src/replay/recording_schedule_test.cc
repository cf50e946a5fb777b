#include "replay/recording_schedule.h"

#include <gtest/gtest.h>

#include "replay/slice_size.h"

namespace deja {
namespace {

constexpr u64 kSecond = 1'000'000'000;

TEST(RecordingSchedule, NothingIsDueWithoutARecording) {
  FakeHostClock clock;
  RecordingSchedule s(clock, {1000, 5000, kSecond});
  clock.now_ns = 100 * kSecond;
  EXPECT_FALSE(s.digest_due(1000) || s.checkpoint_due_by_step(1'000'000) || s.checkpoint_due_by_time(1) ||
               s.takes_progress());
  s.begin(10);
  s.end();
  clock.now_ns = 200 * kSecond;
  EXPECT_FALSE(s.digest_due(1000) || s.checkpoint_due_by_step(1'000'000) || s.checkpoint_due_by_time(1'000) ||
               s.takes_progress());
}

// So that every recording of a machine has them at the same steps, wherever it begins.
TEST(RecordingSchedule, DigestsAndCheckpointsAreAtMultiplesOfTheirIntervals) {
  FakeHostClock clock;
  RecordingSchedule s(clock, {1000, 5000, 0});
  s.begin(2500);
  EXPECT_EQ(s.next_digest(), 3000u);
  EXPECT_TRUE(s.digest_due(3000));
  s.digest_taken();
  EXPECT_EQ(s.next_digest(), 4000u);
  EXPECT_FALSE(s.checkpoint_due_by_step(4999));
  EXPECT_TRUE(s.checkpoint_due_by_step(5001));
  s.checkpoint_tried(5001, true);
  EXPECT_FALSE(s.checkpoint_due_by_step(9999));
  EXPECT_TRUE(s.checkpoint_due_by_step(10000));
}

TEST(RecordingSchedule, ACheckpointThatFailedIsTriedAgainSoon) {
  FakeHostClock clock;
  RecordingSchedule s(clock, {1000, 8000, 8 * kSecond});
  s.begin(0);
  s.checkpoint_tried(8000, false);
  EXPECT_FALSE(s.checkpoint_due_by_step(9000));
  EXPECT_TRUE(s.checkpoint_due_by_step(9001));
  clock.now_ns = kSecond;
  EXPECT_TRUE(s.checkpoint_due_by_time(8000));
}

TEST(RecordingSchedule, ByTimeOnlyWhereTheGuestHasRun) {
  FakeHostClock clock;
  RecordingSchedule s(clock, {1000, 1'000'000, kSecond});
  s.begin(500);
  EXPECT_FALSE(s.checkpoint_due_by_time(500));
  EXPECT_TRUE(s.checkpoint_due_by_time(501));
  s.checkpoint_tried(501, true);
  EXPECT_FALSE(s.checkpoint_due_by_time(600));
  clock.now_ns = kSecond;
  EXPECT_TRUE(s.checkpoint_due_by_time(600));
}

TEST(RecordingSchedule, ProgressIsDueOnceASecond) {
  FakeHostClock clock;
  RecordingSchedule s(clock, {1000, 0, 0});
  s.begin(0);
  EXPECT_FALSE(s.takes_progress());
  clock.now_ns = kSecond;
  EXPECT_TRUE(s.takes_progress());
  EXPECT_FALSE(s.takes_progress());
}

TEST(RecordingSchedule, ADateThatWasSetIsToldOfAndSlewingIsNot) {
  FakeHostClock clock;
  RecordingSchedule s(clock, {1000, 0, 0});
  s.begin(0);
  clock.wall_base_ns = 400'000'000;
  EXPECT_EQ(s.takes_date_set(), std::nullopt);
  clock.wall_base_ns = -3600 * static_cast<i64>(kSecond);
  EXPECT_EQ(s.takes_date_set(), clock.wall_unix_ns());
  EXPECT_EQ(s.takes_date_set(), std::nullopt);
}

TEST(SliceSize, FindsWhatTakesAMillisecond) {
  SliceSize size;
  // 500 million steps a second.
  for (int i = 0; i < 40; ++i) size.ran(size.steps(), size.steps() * 2);
  EXPECT_NEAR(static_cast<double>(size.steps()), 500'000, 1000);
  // One slow slice halves it at most.
  size.ran(size.steps(), 10 * kSecond);
  EXPECT_GE(size.steps(), 249'000u);
  // What ended early says nothing.
  const Step before = size.steps();
  size.ran(SliceSize::kLeast - 1, kSecond);
  EXPECT_EQ(size.steps(), before);
}

TEST(SliceSize, StaysWithinItsBounds) {
  SliceSize size;
  for (int i = 0; i < 100; ++i) size.ran(~Step{0}, 0);
  EXPECT_LE(size.steps(), SliceSize::kMost);
  EXPECT_GE(size.steps(), SliceSize::kMost - 1);
  for (int i = 0; i < 100; ++i) size.ran(SliceSize::kLeast, ~u64{0});
  EXPECT_EQ(size.steps(), SliceSize::kLeast);
}

}  // namespace
}  // namespace deja
