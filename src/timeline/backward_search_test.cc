// Searching backward: the same answers from wherever one asks, with checkpoints or without, alone or with
// help.
#include "timeline/backward_search.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "timeline/hit_filter_for_test.h"
#include "timeline/observation_codec.h"
#include "timeline/ticking_recording_for_test.h"

namespace deja {
namespace {

using test::accept_if;

class BackwardSearchTest : public TickingRecordingTest {
 protected:
  static BackwardSearch search_for_ticks(Step before) {
    BackwardSearch search;
    search.spec = watch_ticks();
    search.before = before;
    return search;
  }

  // For every turn of the loop that keeps the guest busy longest, over some intervals between checkpoints.
  static BackwardSearch search_in_a_loop(Navigator& nav) {
    const std::vector<Step> ticks = places(nav);
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

  static std::vector<Step> places(Navigator& nav) {
    std::vector<Step> out;
    for (const Hit& hit : ticks(nav)) out.push_back(place_of(hit));
    return out;
  }
};

TEST_F(BackwardSearchTest, EachWriteIsTheLastOneBeforeTheNext) {
  for (const bool checkpoints : {false, true}) {
    if (checkpoints) add_checkpoints();
    auto nav = open(dir_);
    const std::vector<Hit> ticks_seen = ticks(*nav);
    ASSERT_GT(ticks_seen.size(), 50u);
    for (std::size_t i = ticks_seen.size(); i-- > 0;) {
      const Step before = i + 1 < ticks_seen.size() ? place_of(ticks_seen[i + 1]) : nav->last();
      auto found = search_backward(*nav, search_for_ticks(before));
      ASSERT_TRUE(found) << found.error().message;
      ASSERT_EQ(found->outcome, BackwardResult::Outcome::found);
      ASSERT_EQ(found->at, place_of(ticks_seen[i])) << "tick " << i;
      ASSERT_EQ(found->hits[0].now[0], static_cast<u8>(found->hits[0].before[0] + 1));
    }
    auto none = search_backward(*nav, search_for_ticks(place_of(ticks_seen[0])));
    ASSERT_TRUE(none);
    EXPECT_EQ(none->outcome, BackwardResult::Outcome::nothing);
    EXPECT_EQ(none->searched_to, 0u);
  }
}

TEST_F(BackwardSearchTest, AHitThatIsNotAcceptedDoesNotEndTheSearch) {
  auto nav = open(dir_);
  const Hit sixth = ticks(*nav)[5];
  BackwardSearch search = search_for_ticks(nav->last());
  search.accept =
      accept_if([wanted = sixth.now[0]](Machine&, const Hit& hit) { return hit.now[0] == wanted; });
  auto found = search_backward(*nav, search);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->outcome, BackwardResult::Outcome::found);
  EXPECT_EQ(found->at, place_of(sixth));
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
  const u64 counting = ticks(*open(dir_))[0].rip;
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
      search.accept = accept_if([rare](Machine& m, const Hit& hit) {
        u32 count = 0;
        return m.ram().read(Gpa(kTicks), &count, sizeof count) && count % rare == 0;
      });
      auto expected = search_backward(*alone, search);
      search.workers = &workers;
      auto found = search_backward(*together, search);
      ASSERT_TRUE(expected) << expected.error().message;
      ASSERT_TRUE(found) << found.error().message;
      ASSERT_NO_FATAL_FAILURE(expect_same(*expected, *found)) << "before " << search.before;
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
  search.accept = accept_if([meeting, alone = searched_alone(*nav, search)](Machine&, const Hit& hit) {
    EXPECT_TRUE(hit.step >= alone || meeting->wait_for(3));
    return false;
  });
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
  search.accept =
      accept_if([start, end, here, alone = searched_alone(*nav, search)](Machine&, const Hit& hit) {
        if (hit.step >= alone) return false;
        EXPECT_TRUE(start->wait_for(2));
        if (std::this_thread::get_id() != here) {
          EXPECT_TRUE(end->wait_for(2));
        }
        return false;
      });
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

TEST_F(BackwardSearchTest, AFilterThatNobodyKnowsIsAnError) {
  auto nav = open(dir_);
  BackwardSearch search = search_for_ticks(nav->last());
  search.accept.kind = "of-the-future";
  auto result = search_backward(*nav, search);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("of-the-future"), std::string::npos);
}

// What a process elsewhere does: bytes in, bytes out.
TEST_F(BackwardSearchTest, AnIntervalIsSearchedAsAValue) {
  auto nav = open(dir_);
  const std::vector<Hit> seen = ticks(*nav);
  BackwardSearch search = search_for_ticks(nav->last());
  ObservationSpec spec = search.spec;
  StateWriter parameters;
  parameters.field(u32{1});
  serialize(parameters, spec);
  serialize(parameters, search.accept);
  const Work work{"search-backward", {place_of(seen[2]), place_of(seen[7])}, parameters.take()};
  auto same = work_from_bytes(bytes_of(work));
  ASSERT_TRUE(same) << same.error().message;
  auto result = run_work({*nav}, *same);
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_TRUE(*result);
  StateReader reader(**result);
  u32 version = 0;
  bool found = false;
  Step at = 0;
  reader.field(version), reader.field(found), reader.field(at);
  EXPECT_TRUE(found);
  EXPECT_EQ(at, place_of(seen[6]));
  // Interrupted at once: no result.
  auto none = run_work({*nav}, work, [] { return true; });
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
}

TEST_F(BackwardSearchTest, WorkThatIsDamagedOrBeyondTheEndsIsRefused) {
  auto nav = open(dir_);
  EXPECT_FALSE(run_work({*nav}, {"search-backward", {0, 10}, {}}));
  EXPECT_FALSE(run_work({*nav}, {"search-backward", {0, 10}, {1, 0, 0, 0, 9}}));
  EXPECT_FALSE(run_work({*nav}, {"search-backward", {0, 10}, {7, 0, 0, 0}}));
  EXPECT_FALSE(run_work({*nav}, {"search-backward", {0, nav->last() + 1}, {}}));
  EXPECT_FALSE(run_work({*nav}, {"divine", {0, 10}, {}}));
}

}  // namespace
}  // namespace deja
