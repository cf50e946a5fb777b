// Finds the last time before a moment that something happened: segment by segment from the nearest
// checkpoint, each one replayed forward, the last hit in it wins.
#pragma once

#include <functional>

#include "timeline/navigator.h"

namespace deja {

struct BackwardSearch {
  ObservationSpec spec;
  // Places before this step count. The place of a breakpoint's hit is the step it stopped at; of an access,
  // the step before which it had not happened.
  Step before = 0;
  Step floor = 0;  // not below this step
  // Whether a hit counts; the machine stands where it was observed. Empty: each does.
  std::function<bool(const Hit&)> accept;
  std::function<bool()> interrupted;  // looked at every few milliseconds
};

struct BackwardResult {
  enum class Outcome : u8 { found, nothing, interrupted } outcome = Outcome::nothing;
  Step at = 0;            // found: the place
  std::vector<Hit> hits;  // and all that count there
  // Between here and `before` there is nothing (else).
  Step searched_to = 0;
};

Step place_of(const Hit& hit);

// Whether the checkpoints know already that nothing in [from, to) can hit, so that it need not be replayed.
bool is_ruled_out(const Navigator& nav, const ObservationSpec& spec, Step from, Step to);

// Leaves the machine anywhere, and not observed. An error: the replay diverged.
Result<BackwardResult> search_backward(Navigator& nav, const BackwardSearch& search);

}  // namespace deja
