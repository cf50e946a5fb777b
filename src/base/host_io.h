// File descriptors of the host: who closes one, and reads and writes that a signal or a short count does not
// end.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/types.h"

namespace deja {

// Owns a file descriptor, or none (-1).
struct Fd {
  Fd() = default;
  explicit Fd(int descriptor) : fd(descriptor) {}
  Fd(Fd&& o) noexcept : fd(o.release()) {}
  Fd& operator=(Fd&& o) noexcept {
    std::swap(fd, o.fd);
    return *this;
  }
  ~Fd();
  // The caller's from now on.
  int release() { return std::exchange(fd, -1); }

  int fd = -1;
};

// Writes all of it at the file's position. 0, or an errno.
int write_all(int fd, std::string_view bytes);

// *out: up to `size` bytes at `offset`, fewer at the end of the file and before an error. 0, or an errno.
int read_at(int fd, u64 offset, u64 size, std::string* out);

}  // namespace deja
