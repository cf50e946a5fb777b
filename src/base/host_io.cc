#include "base/host_io.h"

#include <unistd.h>

#include <cerrno>

namespace deja {

Fd::~Fd() {
  if (fd >= 0) ::close(fd);
}

int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n == 0 ? ENOSPC : errno;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return 0;
}

int read_at(int fd, u64 offset, u64 size, std::string* out) {
  out->resize(size);
  u64 have = 0;
  int error = 0;
  while (have < size) {
    const ssize_t n = ::pread(fd, out->data() + have, size - have, static_cast<off_t>(offset + have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) error = errno;
    if (n <= 0) break;
    have += static_cast<u64>(n);
  }
  out->resize(have);
  return error;
}

}  // namespace deja
