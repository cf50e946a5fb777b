// The serial line on standard input and output, with QEMU's escape keys and the monitor behind Ctrl-A c.
#pragma once

#include "inputs/output_stream.h"
#include "inputs/serial_backend.h"
#include "inputs/terminal.h"

namespace deja {

class Console : public SerialBackend {
 public:
  // Puts the terminal, if `stdin_fd` is one, in raw mode. Works with pipes, files and /dev/null as well;
  // escape keys are then recognised in the same way, and the end of input is simply the end of input.
  Console(int stdin_fd, int stdout_fd);
  // Begins a new line at the terminal for what is printed next.
  ~Console() override;

  void add_to(PollSet& set) const override;
  void service(const PollSet& set) override;
  bool input_waiting(std::size_t room) const override;
  void take_input(u8 port, std::size_t room, const MonitorActions& actions,
                  std::vector<HostInput>& out) override;
  void write(std::string_view bytes) override;
  bool backlogged() const override { return out_.backlogged(); }
  Status drain(u64 timeout_ns) override { return out_.drain(timeout_ns); }
  void suspend() override { terminal_.restore(); }
  void resume() override { terminal_.enter_raw(); }
  bool notify(std::string_view line) override;

 private:
  bool wants_input() const;
  void take_keys(std::string_view bytes);
  void escape_key(char c);

  int in_fd_;
  Terminal terminal_;
  OutputStream out_;
  MonitorSession monitor_;
  LineInput line_;
  std::vector<HostInput> commands_;  // from escape keys
  bool in_line_ = false;             // the guest has said something behind its last newline
  bool input_ended_ = false;
  bool escape_ = false;      // Ctrl-A was the last key
  bool in_monitor_ = false;  // keys go to the monitor
};

}  // namespace deja
