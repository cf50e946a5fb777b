#include "timeline/backward_search.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "replay/position.h"

namespace deja {
namespace {

constexpr Step kSlice = 4'000'000;             // between two looks at `interrupted`
constexpr Step kWorthWorkers = 20'000'000;     // steps to search at a stretch
constexpr std::chrono::milliseconds kPoll{5};  // between two looks at `interrupted` while others search

// Damaged ones count: going there begins at one before.
Step checkpoint_before(const Navigator& nav, Step step) {
  const std::size_t n = nav.checkpoints().count_up_to(step);
  return n ? std::max(nav.first(), nav.checkpoints().point(n - 1).step) : nav.first();
}

// Whether snapshots are left for whoever comes back to where something was found.
enum class Trail : u8 { left, none };

// One segment, [from, to): the last accepted place in it goes into `result`.
Status search_segment(Navigator& nav, const BackwardSearch& search, Trail trail, Step from, Step to,
                      BackwardResult* result) {
  Observation& observation = nav.machine().engine().observation();
  nav.machine().engine().observe({});
  DEJA_TRY(nav.seek(from));
  nav.machine().engine().observe(search.spec);
  for (bool there = false; !there;) {
    if (search.interrupted && search.interrupted()) {
      result->outcome = BackwardResult::Outcome::interrupted;
      return {};
    }
    const Step next = std::min(to, nav.position() + kSlice);
    DEJA_ASSIGN(const Replayer::Stop stop,
                trail == Trail::left ? nav.run_to(next) : nav.replayer().run_to(next));
    if (stop == Replayer::Stop::diverged || stop == Replayer::Stop::log_end)
      return make_error("the replay does not get from step {} to step {} as recorded: deja verify {}",
                        format_count(from), format_count(to), nav.dir().string());
    there = stop == Replayer::Stop::reached && nav.position() >= to;
    for (Hit& hit : observation.take()) {
      const Step place = place_of(hit);
      if (place >= to || place < from || (search.accept && !search.accept(nav.machine(), hit))) continue;
      if (place != result->at) result->hits.clear();
      result->outcome = BackwardResult::Outcome::found;
      result->at = place;
      result->hits.push_back(std::move(hit));
    }
    observation.skip_at(nav.position());
  }
  return {};
}

// All of [floor, before), backward. `at_length`, unless empty, is called before long stretches.
Result<BackwardResult> search_range(Navigator& nav, const BackwardSearch& search, Trail trail, Step floor,
                                    Step before, const std::function<void()>& at_length = {}) {
  BackwardResult result;
  for (Step to = before; to > floor && result.outcome == BackwardResult::Outcome::nothing;) {
    result.searched_to = to;
    const Step from = std::max(floor, nav.segment_start(to - 1));
    if (!is_ruled_out(nav, search.spec, from, to)) {
      if (at_length && to - from > kWorthWorkers) at_length();
      DEJA_TRY(search_segment(nav, search, trail, from, to, &result));
    }
    to = from;
  }
  if (result.outcome == BackwardResult::Outcome::nothing) result.searched_to = floor;
  nav.machine().engine().observe({});
  return result;
}

// A search that several threads share. They take the intervals between checkpoints one by one, the nearest
// first; once something was found in one, those further back do not matter any more.
class SharedSearch {
 public:
  // Of [floor, before); `before` is a checkpoint. Intervals that are ruled out are left out.
  SharedSearch(const Navigator& nav, const BackwardSearch& search, Step floor, Step before)
      : search_(search), floor_(floor) {
    search_.interrupted = nullptr;
    for (Step to = before; to > floor;) {
      const Step from = std::max(floor, checkpoint_before(nav, to - 1));
      if (!is_ruled_out(nav, search.spec, from, to)) intervals_.push_back({from, to});
      to = from;
    }
    answer_ = intervals_.size();
  }

  std::size_t intervals() const { return intervals_.size(); }

  // Searches intervals until there is none left to take, or `interrupted`.
  void help(Navigator& nav, Trail trail, const std::function<bool()>& interrupted = {}) {
    while (const std::optional<std::size_t> i = take()) {
      // Should memory run out, somebody else takes the interval.
      struct PutBack {
        SharedSearch& of;
        std::size_t i;
        ~PutBack() { of.put_back(i); }
      } const put_back{*this, *i};
      BackwardSearch search = search_;
      search.interrupted = [&] { return does_not_matter(*i) || (interrupted && interrupted()); };
      auto result = search_range(nav, search, trail, intervals_[*i].from, intervals_[*i].to);
      // What ails a worker's machine need not ail that of who asks.
      if (!result && trail == Trail::none) return;
      if (!result || result->outcome != BackwardResult::Outcome::interrupted)
        settle(*i, std::move(result));
      else if (interrupted && interrupted())
        return;
    }
  }

  // The whole search, by this thread and whoever helps.
  Result<BackwardResult> finish(Navigator& nav, const std::function<bool()>& asked_to_stop) {
    bool stopped = false;
    const auto interrupted = [&] { return stopped = stopped || (asked_to_stop && asked_to_stop()); };
    while (true) {
      help(nav, Trail::left, interrupted);
      std::unique_lock lock(mutex_);
      const auto unfinished = std::find_if(intervals_.begin(), intervals_.end(),
                                           [](const Interval& t) { return t.state != State::searched; });
      const std::size_t known = static_cast<std::size_t>(unfinished - intervals_.begin());
      if (answer_ <= known) {
        if (answer_ < intervals_.size()) return std::move(*intervals_[answer_].result);
        return BackwardResult{BackwardResult::Outcome::nothing, 0, {}, floor_};
      }
      if (interrupted()) {
        abandoned_ = true;
        return BackwardResult{BackwardResult::Outcome::interrupted, 0, {}, unfinished->to};
      }
      news_.wait_for(lock, kPoll);
    }
  }

  void abandon() {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }

 private:
  enum class State : u8 { open, taken, searched };
  struct Interval {
    Step from, to;
    State state = State::open;
    std::optional<Result<BackwardResult>> result;  // of the answer
  };

  std::optional<std::size_t> take() {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < answer_ && !abandoned_; ++i)
      if (intervals_[i].state == State::open) {
        intervals_[i].state = State::taken;
        return i;
      }
    return std::nullopt;
  }
  void put_back(std::size_t i) {
    const std::lock_guard lock(mutex_);
    if (intervals_[i].state == State::taken) intervals_[i].state = State::open;
  }
  bool does_not_matter(std::size_t i) {
    const std::lock_guard lock(mutex_);
    return answer_ < i || abandoned_;
  }
  void settle(std::size_t i, Result<BackwardResult> result) {
    {
      const std::lock_guard lock(mutex_);
      intervals_[i].state = State::searched;
      if (i < answer_ && !(result && result->outcome == BackwardResult::Outcome::nothing)) {
        answer_ = i;
        intervals_[i].result.emplace(std::move(result));
      }
    }
    news_.notify_all();
  }

  BackwardSearch search_;
  const Step floor_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Interval> intervals_;  // the nearest first
  std::size_t answer_ = 0;  // the nearest in which there was something; as many as there are: none yet
  bool abandoned_ = false;
};

}  // namespace

Step place_of(const Hit& hit) {
  const bool stops_before = hit.kind == Hit::Kind::breakpoint || hit.kind == Hit::Kind::turn;
  return stops_before || hit.step == 0 ? hit.step : hit.step - 1;
}

bool is_ruled_out(const Navigator& nav, const ObservationSpec& spec, Step from, Step to) {
  if (!spec.breakpoints.empty() || spec.delivery_at || spec.turn_of) return false;
  return std::none_of(spec.watchpoints.begin(), spec.watchpoints.end(), [&](const Watchpoint& w) {
    if (!w.physical || w.kinds != Watchpoint::kWrite) return true;
    for (u64 frame = Gpa(w.address).frame(); frame <= Gpa(w.address + w.size - 1).frame(); ++frame)
      if (nav.may_have_been_written(static_cast<u32>(frame), from, to)) return true;
    return false;
  });
}

Result<BackwardResult> search_backward(Navigator& nav, const BackwardSearch& search) {
  const Step floor = std::max(search.floor, nav.first());
  if (!search.workers || search.workers->count() == 0 || search.before <= floor)
    return search_range(nav, search, Trail::left, floor, search.before);
  // Down to the nearest checkpoint there are snapshots, in which this thread alone may soon find it.
  const Step near = std::max(floor, checkpoint_before(nav, search.before - 1));
  std::shared_ptr<SharedSearch> shared;
  const auto share = [&] {
    if (shared) return;
    shared = std::make_shared<SharedSearch>(nav, search, floor, near);
    if (shared->intervals() == 0) return;
    search.workers->start([shared](Navigator& other) { shared->help(other, Trail::none); });
  };
  Result<BackwardResult> result = search_range(nav, search, Trail::left, near, search.before, share);
  if (result && result->outcome == BackwardResult::Outcome::nothing) {
    share();
    return shared->finish(nav, search.interrupted);
  }
  if (shared) shared->abandon();
  return result;
}

}  // namespace deja
