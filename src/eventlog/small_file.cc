#include "eventlog/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "base/types.h"
#include "eventlog/recording_file.h"

namespace deja {
namespace {

Error failed(const std::filesystem::path& path, const char* what) {
  return make_error("{}: cannot {}: {}", path.string(), what, host_error(errno));
}

}  // namespace

Result<std::string> read_small_file(const std::filesystem::path& path) {
  DEJA_ASSIGN(const int fd, open_recording_file(path));
  const Fd f{fd};
  std::string text;
  char buffer[16384];
  while (true) {
    const ssize_t n = ::read(f.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(path, "read");
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > kMaxSmallFile)
      return make_error("{}: larger than {} MiB", path.string(), kMaxSmallFile >> 20);
  }
}

Status replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::filesystem::path temporary = path.string() + ".new";
  {
    // What a writer that was killed left there, or somebody else put there, goes away.
    ::unlink(temporary.c_str());
    const Fd f{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (f.fd < 0) return failed(temporary, "create");
    if (const int error = write_all(f.fd, text)) {
      ::unlink(temporary.c_str());
      errno = error;
      return failed(temporary, "write");
    }
    if (::fsync(f.fd) != 0) return failed(temporary, "sync");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed(path, "replace");
  // The new name, too, is to survive a crash of the host before anything that the old content names is
  // removed. It is no error when that cannot be promised: the file has been replaced.
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  const Fd f{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (f.fd >= 0) (void)::fsync(f.fd);
  return {};
}

}  // namespace deja
