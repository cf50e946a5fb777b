#include "machine/input_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/host_limits.h"
#include "base/sha256.h"

namespace deja {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Result<LoadedFile> read_input_file(std::string_view what, const std::string& path, u64 limit) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (fd.get() < 0) return make_error("cannot open {} '{}': {}", what, path, host_error(errno));
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return make_error("cannot read {} '{}': {}", what, path, host_error(errno));
  if (S_ISDIR(st.st_mode)) return make_error("{} '{}' is a directory, not a file", what, path);

  LoadedFile file;
  file.path = path;
  // One byte more than the size seen, so that the read that finds the end needs no growth.
  if (S_ISREG(st.st_mode)) file.bytes.resize(std::min<u64>(static_cast<u64>(st.st_size), limit) + 1);
  u64 have = 0;
  for (;;) {
    if (have == file.bytes.size()) file.bytes.resize(std::max<u64>(64_KiB, have * 2));
    const ssize_t n = read(fd.get(), file.bytes.data() + have, file.bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return make_error("cannot read {} '{}' at byte {}: {}", what, path, have, host_error(errno));
    if (n == 0) break;
    have += static_cast<u64>(n);
    if (have > limit)
      return make_error("{} '{}' is too large: more than {} bytes ({} MiB)", what, path, limit, limit >> 20);
  }
  file.bytes.resize(have);
  file.sha256 = sha256_hex(file.bytes);
  return file;
}

}  // namespace deja
