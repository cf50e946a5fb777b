// Searching backward, and who wrote what: the same answers from wherever one asks, with checkpoints or
// without.
#include "timeline/backward_search.h"

#include <gtest/gtest.h>

#include "replay/session_for_test.h"
#include "timeline/index_recording.h"
#include "timeline/trim.h"
#include "timeline/who_wrote.h"

namespace deja {
namespace {

constexpr u64 kTicks = 0x60000;  // the test guest counts its timer's interrupts there
constexpr Step kInterval = 100'000;

class BackwardSearchTest : public SessionTest {
 protected:
  BackwardSearchTest() {
    type(103, "b"), type(300, "xy"), type(503, "b"), type(700, "q");
    dir_ = record();
  }
  std::unique_ptr<Navigator> open(const std::filesystem::path& dir) {
    auto navigator = Navigator::open(dir, engine_);
    EXPECT_TRUE(navigator) << navigator.error().message;
    return std::move(navigator).value();
  }
  static std::vector<Write> every_write(Navigator& nav) {
    WhoWrote request{{{Gpa(kTicks), 4}}, nav.last(), true, {}};
    auto writes = who_wrote(nav, request);
    EXPECT_TRUE(writes);
    return std::move(writes).value();
  }
  static std::vector<Step> places(const std::vector<Write>& writes) {
    std::vector<Step> out;
    for (const Write& w : writes) out.push_back(w.before);
    return out;
  }
  void add_checkpoints() {
    auto report = index_recording({dir_, engine_, kInterval, {}});
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_GT(report->checkpoints, 3u);
  }
  static BackwardSearch search_for_ticks(Step before) {
    BackwardSearch search;
    Watchpoint w;
    w.address = kTicks;
    w.size = 4;
    search.spec.watchpoints.push_back(w);
    search.before = before;
    return search;
  }

  std::filesystem::path dir_;
};

TEST_F(BackwardSearchTest, EachWriteIsTheLastOneBeforeTheNext) {
  for (const bool checkpoints : {false, true}) {
    if (checkpoints) add_checkpoints();
    auto nav = open(dir_);
    const std::vector<Write> writes = every_write(*nav);
    ASSERT_GT(writes.size(), 50u);
    for (std::size_t i = writes.size(); i-- > 0;) {
      const Step before = i + 1 < writes.size() ? writes[i + 1].before : nav->last();
      auto found = search_backward(*nav, search_for_ticks(before));
      ASSERT_TRUE(found) << found.error().message;
      ASSERT_EQ(found->outcome, BackwardResult::Outcome::found);
      ASSERT_EQ(found->at, writes[i].before) << "write " << i;
      ASSERT_EQ(writes[i].new_bytes[0], static_cast<u8>(writes[i].old_bytes[0] + 1));
    }
    auto none = search_backward(*nav, search_for_ticks(writes[0].before));
    ASSERT_TRUE(none);
    EXPECT_EQ(none->outcome, BackwardResult::Outcome::nothing);
    EXPECT_EQ(none->searched_to, 0u);
  }
}

TEST_F(BackwardSearchTest, CheckpointsThatRuleIntervalsOutChangeNoAnswer) {
  const std::vector<Step> without = places(every_write(*open(dir_)));
  add_checkpoints();
  EXPECT_EQ(places(every_write(*open(dir_))), without);
}

TEST_F(BackwardSearchTest, AHitThatIsNotAcceptedDoesNotEndTheSearch) {
  auto nav = open(dir_);
  const std::vector<Write> writes = every_write(*nav);
  BackwardSearch search = search_for_ticks(nav->last());
  search.accept = [&](const Hit& hit) { return hit.now[0] == writes[5].new_bytes[0]; };
  auto found = search_backward(*nav, search);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->outcome, BackwardResult::Outcome::found);
  EXPECT_EQ(found->at, writes[5].before);
}

TEST_F(BackwardSearchTest, AnInterruptedSearchSaysHowFarItGot) {
  auto nav = open(dir_);
  BackwardSearch search = search_for_ticks(nav->last());
  search.interrupted = [] { return true; };
  auto result = search_backward(*nav, search);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outcome, BackwardResult::Outcome::interrupted);
  EXPECT_LE(result->searched_to, nav->last());
}

TEST_F(BackwardSearchTest, AWindowHasTheWritesThatHappenedInIt) {
  auto nav = open(dir_);
  const std::vector<Step> all = places(every_write(*nav));
  TrimRequest request;
  request.from = all[10] + 1;
  request.to = all[30] + 1;
  request.name = (temp_.path / "window").string();
  request.interval = kInterval;
  auto report = trim_recording(*nav, request, clock_);
  ASSERT_TRUE(report) << report.error().message;
  auto window = open(report->dir);
  EXPECT_EQ(window->first(), request.from);
  EXPECT_EQ(places(every_write(*window)), std::vector<Step>(all.begin() + 11, all.begin() + 31));
  auto none = search_backward(*window, search_for_ticks(all[11]));
  ASSERT_TRUE(none);
  EXPECT_EQ(none->searched_to, request.from);
}

TEST_F(BackwardSearchTest, AWindowOfNothingOrBeyondTheEndsIsRefusedAndLeavesNothing) {
  auto nav = open(dir_);
  TrimRequest request;
  request.name = (temp_.path / "window").string();
  request.interval = kInterval;
  for (const auto& [from, to] : std::vector<std::pair<Step, Step>>{{7, 7}, {9, 8}, {5, nav->last() + 1}}) {
    request.from = from, request.to = to;
    EXPECT_FALSE(trim_recording(*nav, request, clock_));
    EXPECT_FALSE(std::filesystem::exists(temp_.path / "window.deja"));
  }
}

}  // namespace
}  // namespace deja
