// The host's end of one serial line.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "inputs/input.h"
#include "inputs/monitor.h"
#include "inputs/poll_set.h"
#include "inputs/serial_config.h"

namespace deja {

// Bytes and BREAKs on their way to the guest, in order.
class LineInput {
 public:
  void add_bytes(std::string_view bytes);
  void add_break() { queue_.push_back(input::SerialBreak{}); }
  // No more should be read from the host for now.
  bool full() const { return bytes_ >= kFull; }
  bool waiting(std::size_t room) const;
  // Moves out what fits into `room` bytes of receive space, for port `port`.
  void take(u8 port, std::size_t room, std::vector<HostInput>& out);

 private:
  static constexpr std::size_t kFull = 64 * 1024;
  std::deque<HostInput> queue_;  // SerialBytes and SerialBreak
  std::size_t bytes_ = 0;
};

class SerialBackend {
 public:
  virtual ~SerialBackend() = default;
  virtual void add_to(PollSet& set) const {}
  // Reads and writes what can be without blocking.
  virtual void service(const PollSet& set) {}
  virtual bool input_waiting(std::size_t room) const { return false; }
  virtual void take_input(u8 port, std::size_t room, const MonitorActions& actions,
                          std::vector<HostInput>& out) {}
  // Bytes from the guest.
  virtual void write(std::string_view bytes) = 0;
  virtual bool backlogged() const { return false; }
  virtual Status drain(u64 timeout_ns) { return {}; }
  // Called before the process stops (SIGTSTP), and after it was continued.
  virtual void suspend() {}
  virtual void resume() {}
  // Shows a message to the person at this end; false when there is none.
  virtual bool notify(std::string_view line) { return false; }
};

// Makes every kind but stdio (console.h). The wait for a first client ends when `interrupt_fd` is readable.
Result<std::unique_ptr<SerialBackend>> make_serial_backend(const SerialConfig& config, int interrupt_fd);

}  // namespace deja
