// What a network card of kind `user` is connected to: frames from it are inputs of the machine, frames to it
// outputs.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "inputs/host_clock.h"
#include "inputs/nic_config.h"
#include "inputs/poll_set.h"

namespace deja {

class UserNet {
 public:
  // A guest that takes nothing loses frames beyond so many, as behind a switch; TCP sends them again.
  static constexpr std::size_t kMostWaiting = 512;

  virtual ~UserNet() = default;

  // A frame from the guest.
  virtual void send(std::string_view frame) = 0;
  // Frames for the guest, in order.
  virtual bool waiting() const = 0;
  virtual std::string take() = 0;

  // Descriptors to watch. Returns after how many nanoseconds service() must be called in any case; kNeverNs:
  // no need.
  virtual u64 add_to(PollSet& set) = 0;
  virtual void service(const PollSet& set) = 0;
};

// Listens on the forwarded ports. With the sandbox on, a process of its own does it (slirp_process.h).
// `clock` outlives the object.
Result<std::unique_ptr<UserNet>> make_user_net(const NicConfig& config, HostClock& clock);

}  // namespace deja
