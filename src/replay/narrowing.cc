#include "replay/narrowing.h"

#include <algorithm>

#include "base/check.h"
#include "replay/position.h"

namespace deja {
namespace {

// Each round runs both machines from the beginning, so few rounds with many comparisons are best.
constexpr Step kParts = 64;

using Found = Narrowing::Found;

class Search {
 public:
  Search(const std::function<Result<std::unique_ptr<ComparedPair>>()>& open, Step from, Step to,
         const std::function<void(const std::string&)>& progress)
      : open_(open), progress_(progress), from_(from), to_(to), good_(from), bad_(to) {}

  Result<Narrowing> run() {
    bool differed = false;
    while (!differed || bad_ - good_ > 1) {
      DEJA_ASSIGN(const Found found, compare_with_stops());
      if (found == Found::at_start) return Narrowing{found, from_, from_};
      if (found == Found::nothing) return without_stops(differed);
      differed = true;
    }
    return Narrowing{Found::step, good_, bad_};
  }

 private:
  // Found::step when they differ at one of the stops.
  Result<Found> compare_with_stops() {
    progress_(fmt::format("comparing steps {} to {}", format_count(good_), format_count(bad_)));
    const Step part = std::max<Step>(1, (bad_ - good_) / kParts);
    DEJA_ASSIGN(const std::unique_ptr<ComparedPair> pair, open_());
    DEJA_TRY(pair->run_to(good_));
    if (good_ == from_ && !pair->same()) return Found::at_start;
    for (Step at = good_; at < bad_ && !pair->stuck();) {
      at = std::min(bad_, at + part);
      DEJA_TRY(pair->run_to(at));
      if (!pair->same()) {
        bad_ = at;
        return Found::step;
      }
      good_ = at;
    }
    return Found::nothing;
  }

  // `differed`: with the stops of an earlier round they did.
  Result<Narrowing> without_stops(bool differed) {
    const Step last_compared = good_, differed_at = bad_;
    DEJA_ASSIGN(const bool same_at_end, same_without_stops(to_));
    if (same_at_end) {
      if (differed) return Narrowing{Found::only_if_stopped, last_compared, differed_at};
      return Narrowing{Found::nothing, last_compared, last_compared};
    }
    for (good_ = from_, bad_ = to_; bad_ - good_ > 1;) {
      const Step middle = good_ + (bad_ - good_) / 2;
      progress_(fmt::format("comparing step {} alone, between {} and {}", format_count(middle),
                            format_count(good_), format_count(bad_)));
      DEJA_ASSIGN(const bool same, same_without_stops(middle));
      (same ? good_ : bad_) = middle;
    }
    return Narrowing{Found::unstopped_step, good_, bad_};
  }

  Result<bool> same_without_stops(Step step) {
    DEJA_ASSIGN(const std::unique_ptr<ComparedPair> pair, open_());
    DEJA_TRY(pair->run_to(step));
    return pair->same();
  }

  const std::function<Result<std::unique_ptr<ComparedPair>>()>& open_;
  const std::function<void(const std::string&)>& progress_;
  const Step from_, to_;
  Step good_, bad_;
};

}  // namespace

Result<Narrowing> narrow(const std::function<Result<std::unique_ptr<ComparedPair>>()>& open, Step from,
                         Step to, const std::function<void(const std::string&)>& progress) {
  DEJA_CHECK(from < to, "steps {} to {}", from, to);
  return Search(open, from, to, progress).run();
}

}  // namespace deja
