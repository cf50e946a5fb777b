// The door: where a session gets what comes from outside, and where serial output goes.
// HostInputs (host_inputs.h) is the real one, ScriptedInputs (scripted_inputs_for_test.h) the fake one.
#pragma once

#include <concepts>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "inputs/host_clock.h"
#include "inputs/input.h"

namespace deja {

// Room in the machine's receivers now. Bytes beyond it stay at the host, where their sender is held back.
struct InputRoom {
  InputRoom() = default;
  template <class Sizes>
  requires std::convertible_to<const Sizes&, std::span<const std::size_t>>
  // NOLINTNEXTLINE(google-explicit-constructor): callers pass the sizes alone
  InputRoom(const Sizes& bytes, std::size_t net_frames = 0) : serial(bytes), frames(net_frames) {}

  std::span<const std::size_t> serial;  // bytes, by port; ports beyond the end can take none
  std::size_t frames = 0;               // network frames
};

class InputSource {
 public:
  virtual ~InputSource() = default;

  // Everything that is waiting, in order of arrival, without blocking. Cheap (one system call when nothing is
  // there), meant to be called about once a millisecond. Also moves buffered output on.
  virtual std::vector<HostInput> poll(InputRoom room) = 0;

  // Sleeps until poll(room) would return something (true), or until host time HostClock::monotonic_ns()
  // reaches `deadline_ns` (false; kNeverNs: no deadline). May return true for nothing. Output goes on
  // meanwhile.
  virtual bool wait_until(u64 deadline_ns, InputRoom room) = 0;
};

// Takes the bytes that a guest sends over its serial lines. The machine never waits for the host in a way
// that it could see: write() only buffers; while backlogged() the session must not let the machine run on
// (InputSource::wait_until moves the output, and still sees Quit).
class SerialOutput {
 public:
  virtual ~SerialOutput() = default;
  virtual void write(u8 port, std::string_view bytes) = 0;
  // More is buffered than should be because the host is slow or blocked, or an error waits to be taken by
  // drain().
  virtual bool backlogged() const = 0;
  // Writes what is buffered, waiting at most `timeout_ns`. Where the host refuses, an error, once: output to
  // a full disk is kept, and the next drain() tries again; output to a closed pipe or a terminal that hung up
  // is dropped from then on.
  virtual Status drain(u64 timeout_ns) = 0;
  // A frame that the guest sends over its network card. It is never held back: a wire loses frames that
  // nobody takes.
  virtual void send_frame(std::string_view) {}
};

// Discards everything (`replay --quiet`, verify).
class NullSerialOutput : public SerialOutput {
 public:
  void write(u8, std::string_view) override {}
  bool backlogged() const override { return false; }
  Status drain(u64) override { return {}; }
};

// Collects in memory.
class StringSerialOutput : public SerialOutput {
 public:
  void write(u8 port, std::string_view bytes) override {
    if (port >= text.size()) text.resize(port + 1);
    text[port] += bytes;
  }
  bool backlogged() const override { return false; }
  Status drain(u64) override { return {}; }

  std::vector<std::string> text;  // by port
};

}  // namespace deja
