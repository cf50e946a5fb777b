// The file descriptors that one round of poll(2) watches.
#pragma once

#include <poll.h>

#include <vector>

#include "base/types.h"

namespace deja {

class PollSet {
 public:
  void add(int fd, short events) { fds_.push_back({fd, events, 0}); }
  // Waits at most `timeout_ns` (0: only looks; kNeverNs: for ever). A signal ends the wait.
  void wait(u64 timeout_ns);
  // The events that poll(2) returned; 0 for a descriptor that was not added.
  short events(int fd) const {
    for (const pollfd& p : fds_)
      if (p.fd == fd) return p.revents;
    return 0;
  }
  // Those of the events asked for that are ready; POLLHUP and POLLERR count as readable and writable.
  bool readable(int fd) const { return ready(fd, POLLIN | POLLHUP | POLLERR | POLLNVAL); }
  bool writable(int fd) const { return ready(fd, POLLOUT | POLLHUP | POLLERR | POLLNVAL); }

 private:
  bool ready(int fd, short events) const {
    for (const pollfd& p : fds_)
      if (p.fd == fd && (p.revents & events)) return true;
    return false;
  }
  std::vector<pollfd> fds_;
};

}  // namespace deja
