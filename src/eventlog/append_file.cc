#include "eventlog/append_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "base/host_io.h"
#include "base/host_limits.h"

namespace deja {
namespace {

std::string advice(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free some space and resume, or end the recording; what was written so far is intact";
    case EFBIG:
      return "raise the file size limit (ulimit -f) next time; what was written so far is intact";
    default:
      return "check the disk; what was written so far is intact";
  }
}

class RealAppendFile : public AppendFile {
 public:
  RealAppendFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~RealAppendFile() override { ::close(fd_); }

  Status append(std::string_view bytes) override {
    if (const int error = write_all(fd_, bytes)) return failed("write", error);
    return {};
  }
  Status truncate(u64 size) override {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) return failed("truncate", errno);
    return {};
  }
  Status sync() override {
    // EINVAL: a special file such as /dev/full, which cannot be synced.
    if (::fdatasync(fd_) != 0 && errno != EINVAL) return failed("sync", errno);
    return {};
  }

 private:
  Error failed(const char* what, int error) const {
    return make_error("{}: cannot {}: {}; {}", path_, what, host_error(error), advice(error));
  }
  std::string path_;
  int fd_;
};

}  // namespace

Result<std::unique_ptr<AppendFile>> create_append_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return make_error("{}: cannot create: {}", path, host_error(errno));
  auto file = std::make_unique<RealAppendFile>(path, fd);
  // A reader that asks whether the recording is being written holds the lock for an instant: wait for it.
  while (::flock(fd, LOCK_EX) != 0) {
    if (errno != EINTR) return make_error("{}: cannot lock: {}", path, host_error(errno));
  }
  return std::unique_ptr<AppendFile>(std::move(file));
}

}  // namespace deja
