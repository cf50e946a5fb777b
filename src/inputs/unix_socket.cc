#include "inputs/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "sandbox/outside_file.h"

namespace deja {
namespace {

// sun_path has room for 107 bytes. A longer path is reached through its directory's file descriptor, which
// `directory` keeps open.
Result<sockaddr_un> address_of(const std::string& path, Fd& directory) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  std::string name = path;
  if (path.size() >= sizeof a.sun_path) {
    const auto slash = path.rfind('/');
    const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    directory.fd = ::open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory.fd < 0) return make_error("{}: cannot open: {}", dir, host_error(errno));
    name = fmt::format("/proc/self/fd/{}/{}", directory.fd, path.substr(slash + 1));
  }
  if (name.empty() || name.size() >= sizeof a.sun_path)
    return make_error("{}: not a possible name for a socket (its last part may have 80 bytes)", path);
  std::memcpy(a.sun_path, name.data(), name.size());
  return a;
}

}  // namespace

Result<int> connect_unix(const std::string& path) {
  Fd directory;
  DEJA_ASSIGN(const sockaddr_un a, address_of(path, directory));
  Fd s{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (s.fd < 0 || ::connect(s.fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0)
    return make_error("{}: cannot connect: {}", path, host_error(errno));
  const int fd = s.fd;
  s.fd = -1;
  return fd;
}

Result<ListeningSocket> ListeningSocket::create(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) == 0) {
    if (!S_ISSOCK(st.st_mode)) return make_error("{}: exists and is not a socket; choose another path", path);
    if (auto other = connect_unix(path); other.ok()) {
      ::close(other.value());
      return make_error("{}: another program listens on this socket; choose another path", path);
    }
    ::unlink(path.c_str());
  }
  Fd directory;
  DEJA_ASSIGN(const sockaddr_un a, address_of(path, directory));
  Fd s{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (s.fd < 0) return make_error("{}: cannot make a socket: {}", path, host_error(errno));
  const mode_t old = ::umask(0177);
  const bool bound = ::bind(s.fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0;
  const int error = errno;
  ::umask(old);
  if (!bound) return make_error("{}: cannot make a socket: {}", path, host_error(error));
  if (::listen(s.fd, 8) != 0) return make_error("{}: cannot listen: {}", path, host_error(errno));
  DEJA_TRY(prepare_outside_file(path));
  ListeningSocket socket(path, s.fd);
  s.fd = -1;
  return socket;
}

ListeningSocket::~ListeningSocket() {
  if (fd_ < 0) return;
  ::close(fd_);
  remove_outside_file(path_);
}

int ListeningSocket::accept() { return ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); }

}  // namespace deja
