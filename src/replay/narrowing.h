// The search for the first step after which two machines differ that run from one log.
//
// Each round stops both at many steps and compares them there; the next looks closer, between the last step
// at which they were the same and the first at which they were not. That finds whatever is a function of the
// steps alone. But a mistake of the engine may depend on where its runs end: a machine that is stopped on the
// way does not make it, or makes another. So when a difference does not show again, the search goes on with
// machines that run from the start to the step in question and stop nowhere before it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// Two machines at the start of one log.
class ComparedPair {
 public:
  virtual ~ComparedPair() = default;
  // Each stays where it is when it cannot go on as recorded.
  virtual Status run_to(Step step) = 0;
  virtual bool same() = 0;
  // Neither can go on.
  virtual bool stuck() const = 0;
};

struct Narrowing {
  enum class Found {
    nothing,          // they are the same wherever they were compared, the last time after `good`
    at_start,         // they differ already after the first step that was compared
    step,             // they differ after `bad` = `good` + 1
    unstopped_step,   // the same, though only if they are not stopped on the way
    only_if_stopped,  // they differ after `bad` if they are stopped on the way, and not otherwise
  };
  Found found = Found::nothing;
  Step good = 0, bad = 0;
};

// Looks between `from`, where both should be the same, and `to`. `open` makes a pair; `progress` gets a line
// for each round.
Result<Narrowing> narrow(const std::function<Result<std::unique_ptr<ComparedPair>>()>& open, Step from,
                         Step to, const std::function<void(const std::string&)>& progress);

}  // namespace deja
