// Finds the last time before a moment that something happened: segment by segment from the nearest
// checkpoint, each one replayed forward, the last hit in it wins. Where a search gets long, workers replay
// segments further back meanwhile (work_queue.h); the answer is the same with any number of them.
#pragma once

#include <vector>

#include "timeline/hit_filter.h"
#include "timeline/search_workers.h"
#include "timeline/work.h"

namespace deja {

struct BackwardSearch {
  ObservationSpec spec;
  // Places before this step count. The place of a breakpoint's hit is the step it stopped at; of an access,
  // the step before which it had not happened.
  Step before = 0;
  Step floor = 0;                    // not below this step
  HitFilter accept = {};             // which hits count; each, unless something is said
  Interrupted interrupted;           // looked at every few milliseconds, by the thread that searches
  SearchWorkers* workers = nullptr;  // of the same recording; null: there are none
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
