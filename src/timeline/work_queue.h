// The scheduler: one question about many intervals, which whoever has time takes one by one, and one answer.
//
//   const auto queue = std::make_shared<WorkQueue>(kKind, parameters, intervals);
//   workers.start([queue](Navigator& nav) { queue->help(runner({nav})); });    // any number of helpers
//   DEJA_ASSIGN(auto answer, queue->finish(runner({*nav, true}), interrupted));
//
// Intervals are handed out, and results merged, in the order given: the nearest first for a search that ends
// with the first find, the oldest first to collect everything. The answer depends on nothing else, neither on
// how many help nor on who is quicker: a find counts when everything before it in the order has been looked
// through. A helper need not be a thread of this process. Its runner gets the work as a value, may take it to
// another process as bytes (work.h), and brings bytes back.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "timeline/work.h"

namespace deja {

class SearchWorkers;

class WorkQueue {
 public:
  // Does one piece of work, as run_work() does.
  using Runner = std::function<Result<std::optional<ValueBytes>>(const Work&, const Interrupted&)>;

  struct Answer {
    ValueBytes merged;  // of the first `done` intervals; empty when there are none
    std::size_t done = 0;
    bool interrupted = false;  // it is not the whole answer
  };

  WorkQueue(const WorkKind& kind, ValueBytes parameters, std::vector<Interval> intervals);

  const std::vector<Interval>& intervals() const { return intervals_; }

  // For any thread but the one that asks: does work until none is left that matters. Work that fails here,
  // also by an exception, goes back to the others, and this helper ends: what ails its machine need not ail
  // theirs.
  void help(const Runner& run);
  // For the thread that asks: helps until there is an answer, or `interrupted`, which it does not wait for
  // helpers to notice. Theirs is told to end when this returns. An error: work failed here.
  Result<Answer> finish(const Runner& run, const Interrupted& interrupted);
  // Nobody wants the answer any more.
  void abandon();

 private:
  enum class State : u8 { open, taken, done };
  struct Piece {
    State state = State::open;
    std::optional<Result<ValueBytes>> result;  // done
  };

  std::optional<std::size_t> take();
  void put_back(std::size_t i);
  void settle(std::size_t i, Result<ValueBytes> result);
  bool matters(std::size_t i);
  // Takes and does one piece. False: there was none, or this helper is to end.
  bool help_once(const Runner& run, bool asks, const Interrupted& interrupted);
  std::size_t known() const;  // so many pieces are done from the first on
  Result<Answer> merge(std::size_t count, bool interrupted);

  const WorkKind& kind_;
  const ValueBytes parameters_;
  const std::vector<Interval> intervals_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Piece> pieces_;  // as the intervals
  std::size_t last_;           // nothing behind this piece matters; as many as there are: all do
  bool abandoned_ = false;
};

// Does work with a machine of this process.
WorkQueue::Runner runner(WorkPlace place);
// Lets the threads help.
void share(const std::shared_ptr<WorkQueue>& queue, SearchWorkers& workers);

}  // namespace deja
