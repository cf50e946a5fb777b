// The network behind `-nic user`: libslirp's gateway, DHCP and DNS servers, and connections made by this
// process for the guest. Frames from it are inputs of the machine, frames to it outputs.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "inputs/user_net.h"

struct Slirp;

namespace deja {

class SlirpNet final : public UserNet {
 public:
  // See make_user_net.
  static Result<std::unique_ptr<SlirpNet>> create(const NicConfig& config, HostClock& clock);
  ~SlirpNet() override;
  SlirpNet(const SlirpNet&) = delete;

  void send(std::string_view frame) override;
  bool waiting() const override { return !frames_.empty(); }
  std::string take() override;
  u64 add_to(PollSet& set) override;
  void service(const PollSet& set) override;

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
