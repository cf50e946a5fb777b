// When a live session that is recorded writes what it writes now and then: digests at multiples of an
// interval of steps, checkpoints at such multiples or after so much host time, the passing of host time once
// a second, and the host's date whenever somebody has set it.
#pragma once

#include <optional>

#include "base/types.h"
#include "inputs/host_clock.h"

namespace deja {

struct ScheduleOptions {
  Step digest_interval = 0;
  Step checkpoint_interval = 0;    // 0: no checkpoints
  u64 checkpoint_interval_ns = 0;  // host time; not 0: checkpoints are also taken when so much has passed
};

class RecordingSchedule {
 public:
  RecordingSchedule(HostClock& clock, const ScheduleOptions& options) : clock_(clock), options_(options) {}

  // A recording begins at `now`; until then, and after end(), nothing is due.
  void begin(Step now);
  void end();

  // Steps at which a slice has to end.
  Step next_digest() const { return next_digest_; }
  bool digest_due(Step now) const { return now == next_digest_; }
  void digest_taken() { next_digest_ += options_.digest_interval; }

  bool checkpoint_due_by_step(Step now) const { return now >= next_checkpoint_; }
  bool checkpoint_due_by_time(Step now) const {
    return clock_.monotonic_ns() >= next_checkpoint_ns_ && now > last_checkpoint_;
  }
  // `taken` false: it could not be taken now; it is due again soon.
  void checkpoint_tried(Step now, bool taken);

  // Host time at which progress is to be logged next; kNeverNs: never.
  u64 next_progress_ns() const { return next_progress_ns_; }
  // True once each time that it is due.
  bool takes_progress();
  // The host's date when somebody has set it since the last call; NTP's slewing is slower and does not count.
  std::optional<i64> takes_date_set();

 private:
  Step next_multiple(Step now, Step interval) const { return (now / interval + 1) * interval; }

  HostClock& clock_;
  ScheduleOptions options_;
  Step next_digest_ = kNeverStep, next_checkpoint_ = kNeverStep, last_checkpoint_ = 0;
  u64 next_progress_ns_ = kNeverNs, next_checkpoint_ns_ = kNeverNs;  // host time
  i64 wall_minus_monotonic_ = 0;
};

}  // namespace deja
