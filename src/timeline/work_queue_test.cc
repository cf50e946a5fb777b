// The scheduler with work that needs no machine: a result is what a test says it is.
#include "timeline/work_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <stdexcept>
#include <thread>

namespace deja {
namespace {

Result<std::optional<ValueBytes>> nobody_runs(const WorkPlace&, const Work&, const Interrupted&) {
  return make_error("the test's runner does the work");
}
Status append(ValueBytes* result, const ValueBytes& next) {
  result->insert(result->end(), next.begin(), next.end());
  return {};
}
constexpr u8 kFind = 0xff;
bool is_find(const ValueBytes& bytes) { return !bytes.empty() && bytes.back() == kFind; }

const WorkKind kFake{"fake", {nobody_runs, append, is_find}};

// [0, 10), [10, 20)…
std::vector<Interval> tens(Step n) {
  std::vector<Interval> out;
  for (Step i = 0; i < n; ++i) out.push_back({i * 10, i * 10 + 10});
  return out;
}

std::optional<ValueBytes> number_of(const Work& work) {
  return ValueBytes{static_cast<u8>(work.interval.from / 10)};
}
Result<std::optional<ValueBytes>> number(const Work& work, const Interrupted&) { return number_of(work); }

ValueBytes numbers(unsigned n) {
  ValueBytes out;
  for (unsigned i = 0; i < n; ++i) out.push_back(static_cast<u8>(i));
  return out;
}

// Something that one thread waits for and another makes true.
class Gate {
 public:
  void open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    news_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    news_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable news_;
  bool open_ = false;
};

TEST(WorkQueue, WorkIsTheQuestionAboutEachInterval) {
  WorkQueue queue(kFake, {7, 8}, tens(3));
  std::vector<Interval> seen;
  auto answer = queue.finish(
      [&](const Work& work, const Interrupted&) -> Result<std::optional<ValueBytes>> {
        EXPECT_EQ(work.kind, "fake");
        EXPECT_EQ(work.parameters, (ValueBytes{7, 8}));
        seen.push_back(work.interval);
        return number_of(work);
      },
      {});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(seen, tens(3));
  EXPECT_EQ(answer->merged, numbers(3));
  EXPECT_EQ(answer->done, 3u);
  EXPECT_FALSE(answer->interrupted);
}

TEST(WorkQueue, NoIntervalsHaveAnEmptyAnswer) {
  WorkQueue queue(kFake, {}, {});
  auto answer = queue.finish(number, {});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->done, 0u);
  EXPECT_TRUE(answer->merged.empty());
}

// Finds and failures of helpers at random places, in random order in time.
TEST(WorkQueue, TheAnswerDependsNeitherOnHelpersNorOnTime) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const unsigned n = 1 + random() % 40, helpers = random() % 4;
    std::vector<bool> find(n), fails(n);
    for (unsigned i = 0; i < n; ++i) find[i] = random() % 20 == 0, fails[i] = random() % 8 == 0;
    WorkQueue queue(kFake, {}, tens(n));
    const auto work_on = [&](const Work& work) {
      ValueBytes bytes = *number_of(work);
      if (find[bytes[0]]) bytes.push_back(kFind);
      return std::optional(bytes);
    };
    std::vector<std::thread> threads;
    for (unsigned h = 0; h < helpers; ++h)
      threads.emplace_back([&] {
        queue.help([&](const Work& work, const Interrupted&) -> Result<std::optional<ValueBytes>> {
          std::this_thread::yield();
          if (fails[work.interval.from / 10]) return make_error("no machine");
          return work_on(work);
        });
      });
    auto answer =
        queue.finish([&](const Work& work,
                         const Interrupted&) -> Result<std::optional<ValueBytes>> { return work_on(work); },
                     {});
    for (std::thread& t : threads) t.join();
    const auto first = std::find(find.begin(), find.end(), true);
    const bool found = first != find.end();
    const unsigned count = found ? static_cast<unsigned>(first - find.begin()) + 1 : n;
    ValueBytes expected = numbers(count);
    if (found) expected.push_back(kFind);
    ASSERT_TRUE(answer) << answer.error().message;
    ASSERT_EQ(answer->merged, expected) << "round " << round;
    ASSERT_EQ(answer->done, count);
  }
}

TEST(WorkQueue, WhatFailsAtAHelperIsDoneByAnother) {
  for (const bool thrown : {false, true}) {
    WorkQueue queue(kFake, {}, tens(4));
    unsigned tries = 0;
    const auto fail = [&](const Work& work, const Interrupted&) -> Result<std::optional<ValueBytes>> {
      if (++tries == 1) return number_of(work);
      if (thrown) throw std::runtime_error("memory is used up");
      return make_error("no machine");
    };
    if (thrown)
      EXPECT_THROW(queue.help(fail), std::runtime_error);
    else
      queue.help(fail);
    EXPECT_EQ(tries, 2u) << "a helper that has failed takes no more";
    auto answer = queue.finish(number, {});
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->merged, numbers(4));
  }
}

TEST(WorkQueue, WhatFailsAtTheOneWhoAsksIsAnErrorUnlessSomethingNearerIsFound) {
  const auto run = [](Step find, Step fail) {
    WorkQueue queue(kFake, {}, tens(4));
    // The one who asks begins with what is behind the find.
    Gate taken, failed;
    std::thread helper([&] {
      queue.help([&](const Work& work, const Interrupted&) -> Result<std::optional<ValueBytes>> {
        if (work.interval.from / 10 != find) return make_error("not this one");
        taken.open();
        failed.wait();
        return std::optional(ValueBytes{9, kFind});
      });
      taken.open();
    });
    taken.wait();
    auto answer = queue.finish(
        [&](const Work& work, const Interrupted&) -> Result<std::optional<ValueBytes>> {
          if (work.interval.from / 10 != fail) return number_of(work);
          failed.open();
          return make_error("it does not get there");
        },
        {});
    failed.open();
    helper.join();
    return answer;
  };
  auto nearer = run(0, 2);
  ASSERT_TRUE(nearer) << nearer.error().message;
  EXPECT_EQ(nearer->merged, (ValueBytes{9, kFind}));
  auto none = run(7, 2);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message, "it does not get there");
}

TEST(WorkQueue, AFindEndsWorkBehindIt) {
  WorkQueue queue(kFake, {}, tens(2));
  Gate first, second;
  std::thread helper([&] {
    queue.help([&](const Work& work, const Interrupted&) -> Result<std::optional<ValueBytes>> {
      EXPECT_EQ(work.interval.from, 0u);
      first.open();
      second.wait();
      return std::optional(ValueBytes{kFind});
    });
  });
  first.wait();
  auto answer = queue.finish(
      [&](const Work&, const Interrupted& interrupted) -> Result<std::optional<ValueBytes>> {
        second.open();
        while (!interrupted()) std::this_thread::yield();
        return std::optional<ValueBytes>();
      },
      {});
  helper.join();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->done, 1u);
  EXPECT_EQ(answer->merged, ValueBytes{kFind});
}

TEST(WorkQueue, AnInterruptionDoesNotWaitForHelpers) {
  auto queue = std::make_shared<WorkQueue>(kFake, ValueBytes{}, tens(3));
  Gate taken, end;
  std::atomic<bool> told = false;
  std::thread helper([&, queue] {
    queue->help([&](const Work& work, const Interrupted& interrupted) -> Result<std::optional<ValueBytes>> {
      if (work.interval.from == 0) return number_of(work);
      taken.open();
      end.wait();
      told = interrupted();
      return std::optional<ValueBytes>();
    });
  });
  taken.wait();
  bool asked = false;
  auto answer = queue->finish(number, [&] { return std::exchange(asked, true); });
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->interrupted);
  EXPECT_EQ(answer->done, 1u) << "of the second nothing is known, whatever is known of the third";
  EXPECT_EQ(answer->merged, numbers(1));
  end.open();
  helper.join();
  EXPECT_TRUE(told);
}

TEST(WorkQueue, WhoeverAsksIsInterruptedInItsOwnWork) {
  WorkQueue queue(kFake, {}, tens(3));
  auto answer = queue.finish(
      [](const Work& work, const Interrupted& interrupted) -> Result<std::optional<ValueBytes>> {
        if (work.interval.from == 10) {
          EXPECT_TRUE(interrupted());
          return std::optional<ValueBytes>();
        }
        return number_of(work);
      },
      [] { return true; });
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->interrupted);
  EXPECT_EQ(answer->done, 1u);
}

TEST(WorkQueue, AnAbandonedQuestionGivesNoWork) {
  WorkQueue queue(kFake, {}, tens(3));
  queue.abandon();
  queue.help([](const Work&, const Interrupted&) -> Result<std::optional<ValueBytes>> {
    ADD_FAILURE();
    return std::optional<ValueBytes>();
  });
}

TEST(WorkQueueDeathTest, WorkIsNotGivenUpWithoutNeed) {
  WorkQueue queue(kFake, {}, tens(1));
  EXPECT_DEATH(queue.help([](const Work&, const Interrupted&) -> Result<std::optional<ValueBytes>> {
    return std::optional<ValueBytes>();
  }),
               "steps 0 to 10 were given up");
}

TEST(Work, BytesAreTheWholeOfIt) {
  const Work work{"fake", {3, 1'000'000'000'000}, {1, 2, 3}};
  auto same = work_from_bytes(bytes_of(work));
  ASSERT_TRUE(same) << same.error().message;
  EXPECT_EQ(same->kind, work.kind);
  EXPECT_EQ(same->interval, work.interval);
  EXPECT_EQ(same->parameters, work.parameters);
}

TEST(Work, AnyBytesAreSafe) {
  const ValueBytes good = bytes_of({"fake", {3, 9}, {1, 2, 3}});
  EXPECT_FALSE(work_from_bytes({}));
  std::mt19937 random(5);
  for (int round = 0; round < 20'000; ++round) {
    ValueBytes bad = good;
    bad[random() % bad.size()] = static_cast<u8>(random());
    bad.resize(random() % 4 ? bad.size() : random() % bad.size());
    (void)work_from_bytes(bad);
  }
  ValueBytes newer = good;
  newer[0] = 2;
  auto refused = work_from_bytes(newer);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("version 2"), std::string::npos);
}

}  // namespace
}  // namespace deja
