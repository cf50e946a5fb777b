#include "inputs/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "base/host_limits.h"

namespace deja {

Result<std::unique_ptr<Signals>> Signals::create() {
  std::unique_ptr<Signals> s(new Signals);
  sigset_t mask;
  sigemptyset(&mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT}) {
    struct sigaction action {};
    const bool ignored = ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
    if (signal == SIGHUP && ignored) continue;
    sigaddset(&mask, signal);
  }
  s->fd_ = ::signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
  if (s->fd_ < 0) return make_error("cannot watch for signals: {}", host_error(errno));
  ::pthread_sigmask(SIG_BLOCK, &mask, &s->old_mask_);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, &s->old_pipe_);
  ::sigaction(SIGXFSZ, &ignore, &s->old_xfsz_);
  return s;
}

Signals::~Signals() {
  if (fd_ < 0) return;
  (void)take();  // what is pending must not strike when it is unblocked
  ::close(fd_);
  ::sigaction(SIGPIPE, &old_pipe_, nullptr);
  ::sigaction(SIGXFSZ, &old_xfsz_, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

std::vector<int> Signals::take() {
  std::vector<int> out;
  signalfd_siginfo info{};
  while (::read(fd_, &info, sizeof info) == sizeof info) out.push_back(static_cast<int>(info.ssi_signo));
  return out;
}

}  // namespace deja
