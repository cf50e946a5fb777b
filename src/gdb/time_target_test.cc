// What gdb's resumes do to a recording: each way back leads over the places of the way there.
#include "gdb/time_target.h"

#include <gtest/gtest.h>

#include "replay/session_for_test.h"

// The test guest's handler of timer interrupts.
extern "C" {
extern const deja::u8 timer[];
}

namespace deja {
namespace {

class TimeTargetTest : public SessionTest {
 protected:
  TimeTargetTest() {
    // Longer than the stretch between two looks for Ctrl-C.
    type(103, "b"), type(300, "xy"), type(503, "bbbbbb"), type(700, "q");
    nav_ = std::move(Navigator::open(record(), engine_)).value();
    target_ = std::make_unique<TimeTarget>(*nav_);
    EXPECT_TRUE(target_->seek(0).ok());
  }
  static u64 address_of(const u8* label) { return 0x100000 + static_cast<u64>(label - test_guest); }

  GdbStop resume(GdbResume request) {
    request.interrupted = [this] { return interrupted_; };
    auto stop = target_->resume(request);
    EXPECT_TRUE(stop) << stop.error().message;
    return stop ? stop.value() : GdbStop();
  }
  GdbStop step(bool backward) {
    GdbResume r;
    r.backward = backward;
    r.how = GdbResume::How::step;
    return resume(r);
  }
  GdbResume to_timer(bool backward) {
    GdbResume r;
    r.backward = backward;
    r.breakpoints.push_back({address_of(timer), false, {}});
    return r;
  }
  // A step in the middle of the first two million busy instructions: behind the interrupt that follows them.
  Step busy_step() {
    resume(to_timer(false));
    for (Step before = nav_->position();; before = nav_->position()) {
      resume(to_timer(false));
      if (nav_->position() - before > 500'000) return nav_->position() - 250'000;
    }
  }

  std::unique_ptr<Navigator> nav_;
  std::unique_ptr<TimeTarget> target_;
  bool interrupted_ = false;
};

TEST_F(TimeTargetTest, BreakpointsAreHitBackwardWhereTheyWereHitForward) {
  std::vector<Step> forward;
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(resume(to_timer(false)).why, GdbStop::Why::breakpoint);
    EXPECT_EQ(linear_pc(target_->cpu(0).state), address_of(timer));
    forward.push_back(nav_->position());
  }
  for (std::size_t i = forward.size() - 1; i-- > 0;) {
    ASSERT_EQ(resume(to_timer(true)).why, GdbStop::Why::breakpoint);
    ASSERT_EQ(nav_->position(), forward[i]);
  }
  EXPECT_EQ(resume(to_timer(true)).why, GdbStop::Why::history_begins);
  EXPECT_EQ(nav_->position(), 0u);
  EXPECT_EQ(step(true).why, GdbStop::Why::history_begins);
}

TEST_F(TimeTargetTest, StepsBackLeadOverTheSamePlacesPastInterrupts) {
  const Step start = busy_step();
  ASSERT_TRUE(target_->seek(start).ok());
  std::vector<Step> places{start};
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(step(false).why, GdbStop::Why::stepped);
    places.push_back(nav_->position());
  }
  for (std::size_t i = places.size() - 1; i-- > 0;) {
    ASSERT_EQ(step(true).why, GdbStop::Why::stepped);
    ASSERT_EQ(nav_->position(), places[i]) << "step " << i;
  }
}

TEST_F(TimeTargetTest, AStepPassesOverAHandlerInBothDirections) {
  // Right before the interrupt: one step of the loop leads behind its handler, and back.
  resume(to_timer(false));
  for (Step before = nav_->position(); nav_->position() - before < 500'000;) {
    before = nav_->position();
    resume(to_timer(false));
  }
  const Step in_handler = nav_->position();
  ASSERT_TRUE(target_->seek(in_handler - 1).ok());
  ASSERT_EQ(step(false).why, GdbStop::Why::stepped);
  EXPECT_GT(nav_->position(), in_handler + 5);
  EXPECT_NE(linear_pc(target_->cpu(0).state), address_of(timer));
  // The first step back undoes the instruction that was interrupted; what lies before it is behind the
  // handler.
  ASSERT_EQ(step(true).why, GdbStop::Why::stepped);
  EXPECT_GT(nav_->position(), in_handler + 5);
  ASSERT_EQ(step(true).why, GdbStop::Why::stepped);
  EXPECT_LT(nav_->position(), in_handler);
}

TEST_F(TimeTargetTest, AWatchpointGivesTheStepBeforeTheWriteBackward) {
  GdbResume watch;
  watch.watchpoints.push_back({GdbWatchpoint::Kind::write, 0x60000, 4, false});
  ASSERT_EQ(resume(watch).why, GdbStop::Why::watchpoint);
  ASSERT_EQ(resume(watch).why, GdbStop::Why::watchpoint);
  const Step after = nav_->position();
  watch.backward = true;
  ASSERT_EQ(resume(watch).why, GdbStop::Why::watchpoint);
  EXPECT_EQ(nav_->position(), after - 1);
}

TEST_F(TimeTargetTest, AWatchpointsStopNamesTheByteInBothDirections) {
  GdbResume watch;
  watch.watchpoints.push_back({GdbWatchpoint::Kind::write, 0x5fffc, 12, false});
  resume(watch);
  EXPECT_EQ(resume(watch).accessed, 0x60000u);
  watch.backward = true;
  EXPECT_EQ(resume(watch).accessed, 0x60000u);
}

TEST_F(TimeTargetTest, CtrlCEndsALongWayInBothDirections) {
  interrupted_ = true;
  GdbResume go;
  EXPECT_EQ(resume(go).why, GdbStop::Why::interrupted);
  interrupted_ = false;
  EXPECT_EQ(resume(go).why, GdbStop::Why::history_ends);
  EXPECT_EQ(nav_->position(), nav_->last());
  interrupted_ = true;
  // Without anything to look for it is at the beginning at once.
  go.backward = true;
  go.breakpoints.push_back({0x10, false, {}});
  EXPECT_EQ(resume(go).why, GdbStop::Why::interrupted);
}

}  // namespace
}  // namespace deja
