#include "inputs/terminal.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "base/check.h"

namespace deja {
namespace {

// Read by the crash hook; there is one terminal.
termios g_saved;
int g_raw_fd = -1;

void restore_now() {
  if (g_raw_fd < 0) return;
  const int fd = g_raw_fd;
  g_raw_fd = -1;
  // From the background this would stop us with SIGTTOU; blocked, it goes through.
  sigset_t ttou, old;
  sigemptyset(&ttou);
  sigaddset(&ttou, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &ttou, &old);
  ::tcsetattr(fd, TCSANOW, &g_saved);
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

}  // namespace

Terminal::Terminal(int fd) : fd_(fd), is_terminal_(::isatty(fd)) {}

Terminal::~Terminal() { restore(); }

void Terminal::enter_raw() {
  if (!is_terminal_) return;
  if (g_raw_fd < 0) {
    if (::tcgetattr(fd_, &g_saved) != 0) return;
    static const bool registered = [] {
      add_crash_hook(&restore_now);
      std::atexit(&restore_now);
      return true;
    }();
    (void)registered;
  }
  termios raw = g_saved;
  raw.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  raw.c_oflag |= OPOST;
  raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
  raw.c_cflag = (raw.c_cflag & ~static_cast<tcflag_t>(CSIZE | PARENB)) | CS8;
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  g_raw_fd = fd_;
  ::tcsetattr(fd_, TCSANOW, &raw);
}

void Terminal::restore() {
  if (g_raw_fd == fd_) restore_now();
}

}  // namespace deja
