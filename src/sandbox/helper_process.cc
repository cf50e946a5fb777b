#include "sandbox/helper_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/host_limits.h"
#include "base/log.h"
#include "base/types.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

constexpr unsigned kMostWaits = 200;  // of 10 ms each, for a helper to end

// Signals that the terminal sends to all processes in front are for the one that the user started.
void leave_signals_to_parent(pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  for (const int s : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE})
    ::signal(s, SIG_IGN);
  for (const int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::signal(s, SIG_DFL);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
}

// Leaves standard error, for the last words of a broken invariant, and the socket. Needs no descriptor beyond
// what is closed here: there may be none to be had.
void close_others(int socket) {
  constexpr int kSocket = STDERR_FILENO + 1;
  if (socket != kSocket) ::dup2(socket, kSocket);
  if (::close_range(kSocket + 1, ~0u, 0) != 0) {
    // Something around this process, such as a container, does not know the call. What stays open would keep
    // the other end of the socket alive, and with it this process.
    const int end = static_cast<int>(::sysconf(_SC_OPEN_MAX));
    for (int fd = kSocket + 1; fd < end; ++fd) ::close(fd);
  }
  const int null = ::open("/dev/null", O_RDWR);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  if (null > kSocket) ::close(null);
}

}  // namespace

namespace {

// The first of the descriptors that came with a message; -1: none. The kernel has opened all for which there
// is room here, which is more than one. The others, which no message of ours has, are closed.
int take_descriptor(msghdr& m) {
  int first = -1;
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, reinterpret_cast<const char*>(c) + at, sizeof fd);
      if (first < 0)
        first = fd;
      else
        ::close(fd);
    }
  }
  return first;
}

}  // namespace

bool send_message(int socket, std::string_view bytes, int fd, bool wait) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  ssize_t n = 0;
  do n = ::sendmsg(socket, &m, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
  while (n < 0 && errno == EINTR);
  return n >= 0;
}

std::optional<Message> receive_message(int socket, bool wait, bool* gone) {
  // Made once: most messages are small.
  thread_local std::string buffer(kMaxMessage, '\0');
  Message out;
  iovec part{buffer.data(), buffer.size()};
  msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  ssize_t n = 0;
  do n = ::recvmsg(socket, &m, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  while (n < 0 && errno == EINTR);
  if (gone) *gone = n == 0 || (n < 0 && errno != EAGAIN);
  if (n < 0) return std::nullopt;
  out.fd = take_descriptor(m);
  // Messages of ours are never empty: nothing read is the end.
  if (n == 0) {
    if (out.fd >= 0) ::close(out.fd);
    return std::nullopt;
  }
  out.bytes.assign(buffer, 0, static_cast<std::size_t>(n));
  return out;
}

Result<std::unique_ptr<HelperProcess>> HelperProcess::start(const std::string& name,
                                                            const std::function<int(int)>& body) {
  DEJA_TRY(sandbox::check_host());
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return make_error("cannot start the process {}: {}", name, host_error(errno));
  for (const int end : ends) {
    const int bytes = 4 << 20;  // as much of it as the host allows
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
  std::fflush(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) {
    const Error error = make_error("cannot start the process {}: {}", name, host_error(errno));
    ::close(ends[0]);
    ::close(ends[1]);
    return error;
  }
  if (child == 0) {
    leave_signals_to_parent(parent);
    close_others(ends[1]);
    ::prctl(PR_SET_NAME, name.c_str());
    ::_exit(body(STDERR_FILENO + 1));
  }
  ::close(ends[1]);
  return std::unique_ptr<HelperProcess>(new HelperProcess(ends[0], child));
}

void HelperProcess::confine(Confined what, const FileAccess& files) {
  const Status status = sandbox::enter_helper(what, files);
  if (status) return;
  log_error("sandbox", "{}", status.error().message);
  ::_exit(1);
}

HelperProcess::~HelperProcess() {
  ::close(socket_);
  int status = 0;
  for (unsigned i = 0; i < kMostWaits; ++i) {
    const pid_t done = ::waitpid(child_, &status, WNOHANG);
    if (done == child_ || (done < 0 && errno != EINTR)) return;
    const timespec ten_ms{0, 10'000'000};
    ::nanosleep(&ten_ms, nullptr);
  }
}

}  // namespace deja
