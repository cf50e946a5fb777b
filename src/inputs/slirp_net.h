// The network behind `-nic user`: libslirp's gateway, DHCP and DNS servers, and connections made by this
// process for the guest. Frames from it are inputs of the machine, frames to it outputs.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "inputs/host_clock.h"
#include "inputs/nic_config.h"
#include "inputs/poll_set.h"

struct Slirp;

namespace deja {

class SlirpNet {
 public:
  // Listens on the forwarded ports. `clock` outlives the object.
  static Result<std::unique_ptr<SlirpNet>> create(const NicConfig& config, HostClock& clock);
  ~SlirpNet();
  SlirpNet(const SlirpNet&) = delete;

  // A frame from the guest.
  void send(std::string_view frame);
  // Frames for the guest, in order.
  bool waiting() const { return !frames_.empty(); }
  std::string take();

  // Descriptors to watch. Returns after how many nanoseconds service() must be called in any case; kNeverNs:
  // no need.
  u64 add_to(PollSet& set);
  void service(const PollSet& set);

 private:
  struct Timer;
  struct Callbacks;

  explicit SlirpNet(HostClock& clock);
  void run_timers();

  HostClock& clock_;
  ::Slirp* slirp_ = nullptr;
  std::deque<std::string> frames_;
  std::vector<std::unique_ptr<Timer>> timers_;
  PollSet* polled_ = nullptr;  // while add_to() runs
};

}  // namespace deja
