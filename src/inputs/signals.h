// Signals as input: they are blocked and read from a signalfd, so that none ever interrupts the machine.
#pragma once

#include <csignal>
#include <memory>
#include <vector>

#include "base/result.h"

namespace deja {

class Signals {
 public:
  // Takes SIGINT, SIGTERM, SIGHUP (unless it is ignored, as under nohup), SIGQUIT, SIGTSTP and SIGCONT of the
  // calling thread and of those it creates later; ignores SIGPIPE and SIGXFSZ, which come back as errors of
  // write.
  static Result<std::unique_ptr<Signals>> create();
  // Puts everything back as it was.
  ~Signals();
  Signals(const Signals&) = delete;

  int fd() const { return fd_; }
  // Signals that have arrived, in the kernel's order.
  std::vector<int> take();

 private:
  Signals() = default;
  int fd_ = -1;
  sigset_t old_mask_{};
  struct sigaction old_pipe_ {};
  struct sigaction old_xfsz_ {};
};

}  // namespace deja
