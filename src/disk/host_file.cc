#include "disk/host_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/host_limits.h"

namespace deja {

Result<HostFile> HostFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return make_error("disk image '{}': {}", path, host_error(errno));
  return adopt(path, fd);
}

Result<HostFile> HostFile::adopt(const std::string& path, int fd, std::string_view what) {
  HostFile file(what, path, fd, 0);
  struct stat st {};
  if (::fstat(fd, &st) != 0) return file.wrong("{}", host_error(errno));
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) return file.wrong("is neither a file nor a block device");
  const off_t end = S_ISBLK(st.st_mode) ? ::lseek(fd, 0, SEEK_END) : st.st_size;
  if (end < 0) return file.wrong("{}", host_error(errno));
  file.size_ = static_cast<u64>(end);
  return file;
}

Result<HostFile> HostFile::duplicate() const {
  const int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return wrong("{}", host_error(errno));
  return HostFile(what_, path_, fd, size_);
}

HostFile::~HostFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status HostFile::read(u64 offset, std::span<u8> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return wrong("byte {}: {}", offset, host_error(errno));
    if (n == 0) return wrong("ends at byte {}; it was cut while it was in use", offset);
    offset += static_cast<u64>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status HostFile::read_or_zeros(u64 offset, std::span<u8> out) const {
  const u64 there = offset < size_ ? std::min<u64>(out.size(), size_ - offset) : 0;
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(there), out.end(), u8{0});
  return read(offset, out.first(there));
}

Result<std::string> HostFile::identity() const {
  struct stat st {};
  if (::fstat(fd_, &st) != 0) return wrong("{}", host_error(errno));
  return fmt::format("{}-{}-{}{:09}-{}", st.st_dev, st.st_ino, st.st_ctim.tv_sec, st.st_ctim.tv_nsec, size_);
}

}  // namespace deja
