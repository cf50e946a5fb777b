// A file of the host that is only read: a disk image, or another file that a machine is built from. It is
// never locked, written or mapped.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class HostFile {
 public:
  // A regular file or a block device. Errors name the path.
  static Result<HostFile> open(const std::string& path);
  // The same for an open descriptor, which it takes over. `what` is the file's role, for messages.
  static Result<HostFile> adopt(const std::string& path, int fd, std::string_view what = kDiskImage);
  // The same file by another descriptor.
  Result<HostFile> duplicate() const;
  HostFile(HostFile&& o) noexcept
      : what_(std::move(o.what_)), path_(std::move(o.path_)), fd_(std::exchange(o.fd_, -1)), size_(o.size_) {}
  HostFile& operator=(HostFile&&) = delete;
  ~HostFile();

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  u64 size() const { return size_; }
  // Exactly as many bytes as asked for; an error also where the file ends before.
  Status read(u64 offset, std::span<u8> out) const;
  // The same, with zeros beyond the end.
  Status read_or_zeros(u64 offset, std::span<u8> out) const;

  // "device-inode-ctime-size", the time in nanoseconds: as long as it is the same, so are the file and its
  // content, as far as the host's file system knows.
  Result<std::string> identity() const;

 private:
  static constexpr std::string_view kDiskImage = "disk image";
  HostFile(std::string_view what, std::string path, int fd, u64 size)
      : what_(what), path_(std::move(path)), fd_(fd), size_(size) {}
  template <class... Args>
  Error wrong(fmt::format_string<Args...> f, Args&&... args) const {
    return make_error("{} '{}': {}", what_, path_, fmt::format(f, std::forward<Args>(args)...));
  }
  std::string what_, path_;
  int fd_;
  u64 size_;
};

}  // namespace deja
