#include "inputs/poll_set.h"

#include <cerrno>

#include "base/check.h"

namespace deja {

void PollSet::wait(u64 timeout_ns) {
  const timespec t{static_cast<time_t>(timeout_ns / 1'000'000'000),
                   static_cast<long>(timeout_ns % 1'000'000'000)};
  if (::ppoll(fds_.data(), fds_.size(), timeout_ns == kNeverNs ? nullptr : &t, nullptr) >= 0) return;
  DEJA_CHECK(errno == EINTR || errno == EAGAIN || errno == ENOMEM, "poll: {}", errno);
  for (pollfd& p : fds_) p.revents = 0;
}

}  // namespace deja
