#include "timeline/work_queue.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "timeline/search_workers.h"

namespace deja {
namespace {

constexpr std::chrono::milliseconds kPoll{5};  // between two looks at `interrupted` while others work

}  // namespace

WorkQueue::WorkQueue(const WorkKind& kind, ValueBytes parameters, std::vector<Interval> intervals)
    : kind_(kind),
      parameters_(std::move(parameters)),
      intervals_(std::move(intervals)),
      pieces_(intervals_.size()),
      last_(intervals_.size()) {
  for (const Interval& i : intervals_) DEJA_CHECK(i.from < i.to, "steps {} to {}", i.from, i.to);
}

std::optional<std::size_t> WorkQueue::take() {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < last_ && !abandoned_; ++i)
    if (pieces_[i].state == State::open) {
      pieces_[i].state = State::taken;
      return i;
    }
  return std::nullopt;
}

void WorkQueue::put_back(std::size_t i) {
  {
    const std::lock_guard lock(mutex_);
    if (pieces_[i].state != State::taken) return;
    pieces_[i].state = State::open;
  }
  news_.notify_all();
}

void WorkQueue::settle(std::size_t i, Result<ValueBytes> result) {
  {
    const std::lock_guard lock(mutex_);
    Piece& p = pieces_[i];
    DEJA_CHECK(p.state == State::taken, "{}: piece {} of {} is settled in state {}", kind_.name(), i,
               pieces_.size(), static_cast<int>(p.state));
    p.state = State::done;
    if (!result || kind_.functions().ends(*result)) last_ = std::min(last_, i);
    p.result.emplace(std::move(result));
  }
  news_.notify_all();
}

bool WorkQueue::matters(std::size_t i) {
  const std::lock_guard lock(mutex_);
  return i <= last_ && !abandoned_;
}

bool WorkQueue::help_once(const Runner& run, bool asks, const Interrupted& interrupted) {
  const std::optional<std::size_t> i = take();
  if (!i) return false;
  // Should memory run out, somebody else takes the piece.
  struct PutBack {
    WorkQueue& queue;
    std::size_t i;
    ~PutBack() { queue.put_back(i); }
  } const put_back{*this, *i};
  const auto stop = [&] { return !matters(*i) || (interrupted && interrupted()); };
  auto result = run({std::string(kind_.name()), intervals_[*i], parameters_}, stop);
  if (!result) {
    if (!asks) {
      log_debug("timeline", "a helper ends: {}", result.error().message);
      return false;
    }
    settle(*i, result.error());
  } else if (*result) {
    settle(*i, std::move(**result));
  } else {
    DEJA_CHECK(stop(), "{}: steps {} to {} were given up without need", kind_.name(), intervals_[*i].from,
               intervals_[*i].to);
    return !(interrupted && interrupted());
  }
  return true;
}

void WorkQueue::help(const Runner& run) {
  while (help_once(run, false, {})) {
  }
}

std::size_t WorkQueue::known() const {
  const auto open =
      std::find_if(pieces_.begin(), pieces_.end(), [](const Piece& p) { return p.state != State::done; });
  return static_cast<std::size_t>(open - pieces_.begin());
}

Result<WorkQueue::Answer> WorkQueue::merge(std::size_t count, bool interrupted) {
  Answer answer{{}, count, interrupted};
  for (std::size_t i = 0; i < count; ++i) {
    Result<ValueBytes>& result = *pieces_[i].result;
    if (!result) return result.error();
    if (i == 0)
      answer.merged = std::move(*result);
    else
      DEJA_TRY(kind_.functions().merge(&answer.merged, *result));
  }
  return answer;
}

Result<WorkQueue::Answer> WorkQueue::finish(const Runner& run, const Interrupted& asked_to_stop) {
  struct Abandon {
    WorkQueue& queue;
    ~Abandon() { queue.abandon(); }
  } const abandon_at_end{*this};
  bool stopped = false;
  const Interrupted interrupted = [&] { return stopped = stopped || (asked_to_stop && asked_to_stop()); };
  while (true) {
    while (help_once(run, true, interrupted)) {
    }
    std::unique_lock lock(mutex_);
    const std::size_t done = known();
    if (done > last_) return merge(last_ + 1, false);
    if (done == pieces_.size()) return merge(done, false);
    if (interrupted()) return merge(done, true);
    news_.wait_for(lock, kPoll);
  }
}

void WorkQueue::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
}

WorkQueue::Runner runner(WorkPlace place) {
  return [place](const Work& work, const Interrupted& interrupted) {
    return run_work(place, work, interrupted);
  };
}

void share(const std::shared_ptr<WorkQueue>& queue, SearchWorkers& workers) {
  workers.start([queue](Navigator& nav) { queue->help(runner({nav})); });
}

}  // namespace deja
