// Keeps a guest's clock at the pace of the host's: says how far virtual time should be by now, and until when
// an idle guest sleeps. Virtual time is in ns since power-on, host time in ns of HostClock::monotonic_ns().
#pragma once

#include "base/types.h"
#include "inputs/host_clock.h"

namespace deja {

class Pace {
 public:
  explicit Pace(HostClock& clock) : clock_(clock) {}

  // The session begins with the guest's clock at `now`; `before_host_ns` of host time were spent on it
  // earlier.
  void begin(VtimeNs now, u64 before_host_ns);
  // Host time since the session began, what was spent on it earlier included.
  u64 host_ns() const { return clock_.monotonic_ns() - started_ns_; }
  u64 host_ns_at(u64 monotonic_ns) const { return monotonic_ns - started_ns_; }

  // The virtual time that the host's clock stands for.
  VtimeNs now() const;
  // The host time at which now() gets to `deadline`.
  u64 host_time_of(VtimeNs deadline) const;

  // The guest is idle at `step` with its clock at `now`, and will be for `sleep_ns` if nothing wakes it. A
  // guest that computes faster than its clock's nominal rate gets ahead of the host's time. Its sleeps make
  // up for that, each by lasting an eighth longer at most: to sit out the whole lead at once would keep those
  // waiting who wait for the guest's answer. Counts once for each sleep, however often it is called at the
  // same step.
  void fall_asleep(Step step, VtimeNs now, u64 sleep_ns);

  // The machine stood still since that host time: nobody makes up for it.
  void stood_still_since(u64 monotonic_ns);

 private:
  HostClock& clock_;
  u64 started_ns_ = 0;     // host time
  i64 pace_ns_ = 0;        // host time at which virtual time would be 0
  i64 lead_aside_ns_ = 0;  // the part of the guest's lead over the host that this sleep does not make up for
  Step asleep_since_ = kNeverStep;
};

}  // namespace deja
