#include "eventlog/recording_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/host_io.h"
#include "base/host_limits.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

Error cannot_open(const fs::path& path, int error) {
  if (error == ELOOP)
    return make_error("{}: is a symbolic link, which is no part of a recording; put the file itself there",
                      path.string());
  return make_error("{}: cannot open: {}", path.string(), host_error(error));
}

// `directory` itself is named by the user, and links may lead to it; below it none do.
Status open_directory(const fs::path& recording, std::string_view below, Fd& out) {
  const std::string top = recording.empty() ? "." : recording.string();
  out.fd = ::open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // in the sandbox there is no O_PATH
  if (out.fd < 0) return cannot_open(recording, errno);
  if (below.empty()) return {};
  const int inner =
      ::openat(out.fd, std::string(below).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  // A link is no directory, which is what openat() complains of first.
  if (inner < 0)
    return make_error("{}: is not a directory: {}", (recording / below).string(), host_error(errno));
  ::close(std::exchange(out.fd, inner));
  return {};
}

}  // namespace

Result<int> open_recording_file(const fs::path& recording, std::string_view name) {
  const fs::path path = recording / name;
  const auto slash = name.find('/');
  const std::string_view below = slash == name.npos ? "" : name.substr(0, slash);
  const std::string last(slash == name.npos ? name : name.substr(slash + 1));
  DEJA_CHECK(!last.empty() && last.find('/') == last.npos && last != ".." && below != "..", "{}",
             path.string());
  Fd directory;
  DEJA_TRY(open_directory(recording, below, directory));
  Fd file{::openat(directory.fd, last.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
  if (file.fd < 0) return cannot_open(path, errno);
  struct stat of_directory {
  }, of_file{};
  if (::fstat(directory.fd, &of_directory) != 0 || ::fstat(file.fd, &of_file) != 0)
    return make_error("{}: cannot look at it: {}", path.string(), host_error(errno));
  if (!S_ISREG(of_file.st_mode)) return make_error("{}: not a regular file", path.string());
  const uid_t owner = of_file.st_uid;
  if (owner != of_directory.st_uid && owner != ::geteuid() && owner != 0)
    return make_error(
        "{}: belongs to user {}, and its directory to user {}: it may not be what the recorder wrote there; "
        "make a copy of the recording if you trust it",
        path.string(), owner, of_directory.st_uid);
  return file.release();
}

Result<int> open_recording_file(const fs::path& path) {
  return open_recording_file(path.parent_path(), path.filename().string());
}

bool recording_file_exists(const fs::path& recording, std::string_view name) {
  std::error_code ec;
  return fs::exists(fs::symlink_status(recording / name, ec));
}

}  // namespace deja
