// Finds the last time before a moment that something happened: segment by segment from the nearest
// checkpoint, each one replayed forward, the last hit in it wins. Where a search gets long, workers replay
// segments further back meanwhile; what they find counts when nothing nearer does, so the answer is the same
// with any number of them.
#pragma once

#include <functional>

#include "timeline/navigator.h"
#include "timeline/search_workers.h"

namespace deja {

struct BackwardSearch {
  ObservationSpec spec;
  // Places before this step count. The place of a breakpoint's hit is the step it stopped at; of an access,
  // the step before which it had not happened.
  Step before = 0;
  Step floor = 0;  // not below this step
  // Whether a hit counts; the machine stands where it was observed. Empty: each does. Several threads call it
  // with a machine of their own, for a moment even after the search has ended: it owns what it needs, and
  // changes nothing.
  std::function<bool(Machine&, const Hit&)> accept;
  std::function<bool()> interrupted;  // looked at every few milliseconds, by the thread that searches
  SearchWorkers* workers = nullptr;   // of the same recording; null: there are none
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
