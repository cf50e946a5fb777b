// Whether a live machine stands still, and why: a person has paused it, or the host refuses what must be
// written or read. Nothing reaches a machine that stands still.
#pragma once

#include <utility>
#include <vector>

#include "inputs/host_clock.h"
#include "inputs/input.h"

namespace deja {

class StandStill {
 public:
  explicit StandStill(HostClock& clock) : clock_(clock) {}

  explicit operator bool() const { return paused_ || in_trouble_; }
  bool paused() const { return paused_; }
  bool in_trouble() const { return in_trouble_; }
  // Host time from which on the machine has stood still; only while it does.
  u64 since_ns() const { return since_ns_; }

  // False: it was so already.
  bool pause();
  bool resume();

  // The host refuses something. False: it did so already.
  bool begin_trouble();
  void end_trouble() { in_trouble_ = false; }
  // Host time at which the host is to be asked again; kNeverNs without trouble.
  u64 next_retry_ns() const { return in_trouble_ ? next_retry_ns_ : kNeverNs; }
  // True when it is to be asked now; the next time is a second later.
  bool takes_retry();

  // Inputs that came while the machine waited for the host, in their order.
  void hold(const HostInput& input) { held_.push_back(input); }
  std::vector<HostInput> take_held() { return std::exchange(held_, {}); }

 private:
  HostClock& clock_;
  bool paused_ = false, in_trouble_ = false;
  u64 since_ns_ = 0, next_retry_ns_ = 0;
  std::vector<HostInput> held_;
};

}  // namespace deja
