#include "sandbox/scratch_file.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/host_limits.h"

namespace deja {

std::string ScratchFile::usual_dir() {
  const char* const named = std::getenv("TMPDIR");
  return named && *named ? named : "/var/tmp";
}

Result<ScratchFile> ScratchFile::create(const std::string& dir) {
  ::signal(SIGXFSZ, SIG_IGN);  // beyond `ulimit -f` a write fails, as on a full disk
  int fd = ::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {  // some file systems cannot
    std::string name = dir + "/deja-XXXXXX";
    fd = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd >= 0) ::unlink(name.c_str());
  }
  if (fd < 0) return make_error("scratch space in {}: {}", dir, host_error(errno));
  return ScratchFile(dir, fd);
}

ScratchFile::ScratchFile(ScratchFile&& o) noexcept : dir_(std::move(o.dir_)), fd_(std::exchange(o.fd_, -1)) {}

ScratchFile::~ScratchFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status ScratchFile::write(u64 offset, std::span<const u8> data) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return make_error(
          "scratch space in {}: cannot write at byte {}: {}; what the guest writes to its disks is kept "
          "there: "
          "make room, or name another place with TMPDIR next time",
          dir_, offset, n < 0 ? host_error(errno) : "nothing was written");
    offset += static_cast<u64>(n);
    data = data.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status ScratchFile::read(u64 offset, std::span<u8> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return make_error("scratch space in {}: cannot read at byte {}: {}", dir_, offset,
                        n < 0 ? host_error(errno) : "the file has become shorter");
    offset += static_cast<u64>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace deja
