#include "inputs/output_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/host_limits.h"
#include "inputs/host_clock.h"

namespace deja {
namespace {

constexpr std::size_t kBacklog = 64 * 1024;
constexpr std::size_t kPushAt = 4096;  // bytes gathered before write() itself pushes

bool may_recover(int error) {
  return error == ENOSPC || error == EDQUOT || error == EFBIG || error == ENOMEM;
}

}  // namespace

// O_NONBLOCK belongs to the open file, which a terminal or pipe shares with the shell and others: they would
// all become non-blocking. So the file is opened once more, for us alone; where that cannot be done, poll and
// small writes come close.
OutputStream::OutputStream(int fd, bool own, std::string name)
    : fd_(fd), own_(own), mode_(Mode::blocking), name_(std::move(name)) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return;
  if (S_ISREG(st.st_mode)) {
    mode_ = Mode::regular;
  } else if (S_ISSOCK(st.st_mode)) {
    mode_ = Mode::socket;
  } else if (const int flags = ::fcntl(fd, F_GETFL); flags >= 0 && (flags & O_NONBLOCK)) {
    mode_ = Mode::nonblocking;
  } else {
    const int twin =
        ::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (twin < 0) return;
    if (own_) ::close(fd_);
    fd_ = twin;
    own_ = true;
    mode_ = Mode::nonblocking;
  }
}

OutputStream::~OutputStream() {
  if (own_) ::close(fd_);
}

bool OutputStream::backlogged() const { return error_ || buffered() > kBacklog; }

void OutputStream::write(std::string_view bytes) {
  if (dead_) return;
  buffer_ += bytes;
  if (buffered() >= kPushAt) push();
}

void OutputStream::add_to(PollSet& set) const {
  if (buffered() > 0 && !error_ && !dead_) set.add(fd_, POLLOUT);
}

long OutputStream::write_some(std::string_view bytes) {
  if (mode_ == Mode::socket) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : n;
  }
  if (mode_ == Mode::blocking) {
    PollSet set;
    set.add(fd_, POLLOUT);
    set.wait(0);
    if (!set.writable(fd_)) return 0;
    bytes = bytes.substr(0, 256);
  }
  const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
  return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : n;
}

void OutputStream::push() {
  while (buffered() > 0 && !error_ && !dead_) {
    const long n = write_some(std::string_view(buffer_).substr(done_));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      dead_ = !may_recover(error);
      error_ = make_error("{}: cannot write: {}{}", name_, host_error(error),
                          dead_ ? "" : "; free some space, then resume");
      break;
    }
    if (n == 0) break;
    done_ += static_cast<std::size_t>(n);
  }
  if (dead_ || done_ == buffer_.size()) {
    buffer_.clear();
    done_ = 0;
  } else if (done_ > kBacklog) {
    buffer_.erase(0, done_);
    done_ = 0;
  }
}

std::optional<Error> OutputStream::take_error() {
  std::optional<Error> e = std::move(error_);
  error_.reset();
  return e;
}

Status OutputStream::drain(u64 timeout_ns) {
  RealHostClock clock;
  const u64 start = clock.monotonic_ns();
  while (true) {
    push();
    if (auto e = take_error()) return *e;
    const u64 spent = clock.monotonic_ns() - start;
    if (buffered() == 0 || spent >= timeout_ns) return {};
    PollSet set;
    add_to(set);
    set.wait(std::min<u64>(timeout_ns - spent, 100'000'000));
  }
}

}  // namespace deja
