// A terminal in raw mode, put back whatever way the program ends (except SIGKILL).
#pragma once

#include <termios.h>

namespace deja {

class Terminal {
 public:
  // Does nothing when `fd` is no terminal. At most one object of a process may be raw at a time.
  explicit Terminal(int fd);
  ~Terminal();
  Terminal(const Terminal&) = delete;

  bool is_terminal() const { return is_terminal_; }
  // Keys come singly, unechoed, Ctrl-C and Ctrl-Z as bytes. Output processing stays on, as QEMU has it.
  void enter_raw();
  void restore();

 private:
  int fd_;
  bool is_terminal_;
};

}  // namespace deja
