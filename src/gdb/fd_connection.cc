#include "gdb/fd_connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "base/host_limits.h"

namespace deja {

FdConnection::~FdConnection() { close(fd_); }

bool FdConnection::receive(std::string* bytes, bool wait) {
  pollfd p{fd_, POLLIN, 0};
  while (true) {
    const int ready = poll(&p, 1, wait ? -1 : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return false;
    if (ready == 0) return true;
    char buffer[16 * 1024];
    const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return false;
    bytes->append(buffer, static_cast<std::size_t>(n));
    return true;
  }
}

bool FdConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd p{fd_, POLLOUT, 0};
      poll(&p, 1, -1);
      continue;
    }
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

Result<TcpListener> TcpListener::create(u16 port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return make_error("port {}: socket: {}", port, host_error(errno));
  TcpListener listener(fd, port);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) || listen(fd, 1) ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size))
    return make_error("port {}: cannot be listened on: {}", port, host_error(errno));
  listener.port_ = ntohs(address.sin_port);
  return listener;
}

TcpListener::~TcpListener() {
  if (fd_ >= 0) close(fd_);
}

Result<int> TcpListener::accept() {
  int fd = -1;
  do fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return make_error("port {}: accept: {}", port_, host_error(errno));
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace deja
