// Searching backward, and who wrote what: the same answers from wherever one asks, with checkpoints or
// without.
#include "timeline/backward_search.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <random>
#include <set>
#include <thread>

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
    out.reserve(writes.size());
    for (const Write& w : writes) out.push_back(w.before);
    return out;
  }
  void add_checkpoints(Step interval = kInterval) {
    auto report = index_recording({dir_, engine_, interval, {}});
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

  // For every turn of the loop that keeps the guest busy longest, over some intervals between checkpoints.
  static BackwardSearch search_in_a_loop(Navigator& nav) {
    const std::vector<Step> ticks = places(every_write(nav));
    Step longest = 0;
    BackwardSearch search;
    for (std::size_t i = 1; i < ticks.size(); ++i) {
      if (ticks[i] - ticks[i - 1] <= longest) continue;
      longest = ticks[i] - ticks[i - 1];
      search.before = ticks[i - 1] + longest / 2;
    }
    search.floor = search.before - kInterval / 2;
    EXPECT_TRUE(nav.seek(search.before));
    search.spec.breakpoints.push_back({nav.machine().cpu(0).rip, std::nullopt, false});
    return search;
  }
  // Where the interval begins that no worker searches.
  static Step searched_alone(const Navigator& nav, const BackwardSearch& search) {
    return nav.checkpoints().point(nav.checkpoints().count_up_to(search.before - 1) - 1).step;
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
  search.accept = [wanted = writes[5].new_bytes[0]](Machine&, const Hit& hit) {
    return hit.now[0] == wanted;
  };
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

void expect_same(const BackwardResult& a, const BackwardResult& b) {
  ASSERT_EQ(a.outcome, b.outcome);
  ASSERT_EQ(a.at, b.at);
  ASSERT_EQ(a.hits.size(), b.hits.size());
  for (std::size_t i = 0; i < a.hits.size(); ++i) {
    ASSERT_EQ(a.hits[i].kind, b.hits[i].kind);
    ASSERT_EQ(a.hits[i].step, b.hits[i].step);
    ASSERT_EQ(a.hits[i].rip, b.hits[i].rip);
    ASSERT_EQ(a.hits[i].at, b.hits[i].at);
    ASSERT_EQ(a.hits[i].before, b.hits[i].before);
    ASSERT_EQ(a.hits[i].now, b.hits[i].now);
  }
}

TEST_F(BackwardSearchTest, WorkersFindWhatOneThreadFinds) {
  add_checkpoints();
  std::mt19937_64 random(19);
  const auto below = [&](u64 n) { return random() % n; };
  const u64 counting = every_write(*open(dir_))[0].rip;
  for (const bool chaos : {false, true}) {
    engine_.chaos.enabled = chaos;
    auto alone = open(dir_), together = open(dir_);
    SearchWorkers workers(dir_, engine_, 3);
    for (int n = 0; n < 60; ++n) {
      BackwardSearch search = search_for_ticks(1 + below(alone->last()));
      search.floor = below(3) ? 0 : below(search.before);
      // A breakpoint, which no checkpoint rules out.
      if (below(2)) {
        search.spec.watchpoints.clear();
        search.spec.breakpoints.push_back({counting, std::nullopt, false});
      }
      const Step rare = 1 + below(40);
      search.accept = [rare](Machine& m, const Hit& hit) {
        u32 ticks = 0;
        return m.ram().read(Gpa(kTicks), &ticks, sizeof ticks) && ticks % rare == 0;
      };
      auto expected = search_backward(*alone, search);
      search.workers = &workers;
      auto found = search_backward(*together, search);
      ASSERT_TRUE(expected) << expected.error().message;
      ASSERT_TRUE(found) << found.error().message;
      ASSERT_NO_FATAL_FAILURE(expect_same(*expected, *found)) << "before " << search.before;
    }
  }
}

TEST_F(BackwardSearchTest, WorkersCollectTheWritesThatOneThreadCollects) {
  add_checkpoints(kInterval / 4);
  for (const bool chaos : {false, true}) {
    engine_.chaos.enabled = chaos;
    auto alone = open(dir_), together = open(dir_);
    SearchWorkers workers(dir_, engine_, 3);
    for (const u64 size : {1, 4, 4096}) {
      WhoWrote request{{{Gpa(kTicks), size}, {Gpa(0x7f000), kPageSize}}, alone->last() - 5, true, {}};
      auto expected = who_wrote(*alone, request);
      request.workers = &workers;
      auto found = who_wrote(*together, request);
      ASSERT_TRUE(expected) << expected.error().message;
      ASSERT_TRUE(found) << found.error().message;
      ASSERT_GT(found->size(), 50u);
      ASSERT_EQ(found->size(), expected->size());
      for (std::size_t i = 0; i < found->size(); ++i) {
        ASSERT_EQ(describe((*found)[i]), describe((*expected)[i])) << "write " << i;
        ASSERT_EQ((*found)[i].after, (*expected)[i].after) << "write " << i;
      }
    }
  }
}

// Threads meet in accept(), each in an interval of its own.
struct Meeting {
  std::mutex mutex;
  std::condition_variable news;
  std::set<std::thread::id> seen;
  // Until as many threads are here or have been.
  bool wait_for(std::size_t threads) {
    std::unique_lock lock(mutex);
    seen.insert(std::this_thread::get_id());
    news.notify_all();
    return news.wait_for(lock, std::chrono::seconds(60), [&] { return seen.size() >= threads; });
  }
};

TEST_F(BackwardSearchTest, IntervalsAreSearchedAtTheSameTime) {
  add_checkpoints(kInterval / 10);
  auto nav = open(dir_);
  SearchWorkers workers(dir_, engine_, 2);
  BackwardSearch search = search_in_a_loop(*nav);
  search.workers = &workers;
  const auto meeting = std::make_shared<Meeting>();
  search.accept = [meeting, alone = searched_alone(*nav, search)](Machine&, const Hit& hit) {
    EXPECT_TRUE(hit.step >= alone || meeting->wait_for(3));
    return false;
  };
  auto none = search_backward(*nav, search);
  ASSERT_TRUE(none);
  EXPECT_EQ(none->outcome, BackwardResult::Outcome::nothing);
  EXPECT_EQ(none->searched_to, search.floor);
  EXPECT_EQ(meeting->seen.size(), 3u);
}

TEST_F(BackwardSearchTest, AnInterruptedSearchDoesNotWaitForWorkers) {
  add_checkpoints(kInterval / 10);
  auto nav = open(dir_);
  SearchWorkers workers(dir_, engine_, 1);
  BackwardSearch search = search_in_a_loop(*nav);
  search.workers = &workers;
  // The worker is stuck in its first interval until the interrupted search has come back.
  const auto start = std::make_shared<Meeting>(), end = std::make_shared<Meeting>();
  const auto here = std::this_thread::get_id();
  search.accept = [start, end, here, alone = searched_alone(*nav, search)](Machine&, const Hit& hit) {
    if (hit.step >= alone) return false;
    EXPECT_TRUE(start->wait_for(2));
    if (std::this_thread::get_id() != here) EXPECT_TRUE(end->wait_for(2));
    return false;
  };
  search.interrupted = [start] {
    const std::lock_guard lock(start->mutex);
    return start->seen.size() == 2;
  };
  auto result = search_backward(*nav, search);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outcome, BackwardResult::Outcome::interrupted);
  EXPECT_GT(result->searched_to, search.floor);
  EXPECT_TRUE(end->wait_for(2));
  // What was abandoned does not disturb what comes next.
  search = search_for_ticks(nav->last());
  search.workers = &workers;
  auto found = search_backward(*nav, search);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->outcome, BackwardResult::Outcome::found);
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
