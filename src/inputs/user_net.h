// The network that a card of kind `user` is connected to: frames from it are inputs of the machine, frames to
// it outputs.
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
  // So many frames wait for a guest that takes none; further ones are lost, as behind a switch, and TCP sends
  // them again.
  static constexpr std::size_t kMostWaiting = 512;

  virtual ~UserNet() = default;

  // A frame from the guest.
  virtual void send(std::string_view frame) = 0;
  // Frames for the guest, in order.
  virtual bool waiting() const = 0;
  virtual std::string take() = 0;

  // Adds the descriptors to watch. Returns the nanoseconds after which service() must be called in any case;
  // kNeverNs: it need not.
  virtual u64 add_to(PollSet& set) = 0;
  virtual void service(const PollSet& set) = 0;
};

// Listens on the forwarded ports. With the sandbox on, a helper process does it (slirp_process.h).
// `clock` outlives the object.
Result<std::unique_ptr<UserNet>> make_user_net(const NicConfig& config, HostClock& clock);

}  // namespace deja
