// Signals that are about the process are for the thread that started it; what a thread's own instructions
// raise, it gets in any case.
#pragma once

#include <csignal>

namespace deja {

// Threads that are started while it exists get no others.
class OnlyOwnSignals {
 public:
  OnlyOwnSignals() {
    sigset_t others;
    sigfillset(&others);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&others, own);
    pthread_sigmask(SIG_SETMASK, &others, &before_);
  }
  ~OnlyOwnSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  OnlyOwnSignals(const OnlyOwnSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace deja
