// Output that never blocks: bytes are kept until the host takes them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "inputs/input_source.h"
#include "inputs/poll_set.h"

namespace deja {

class OutputStream {
 public:
  // `fd` is closed with the object if `own`. `name` is for messages.
  OutputStream(int fd, bool own, std::string name);
  ~OutputStream();
  OutputStream(const OutputStream&) = delete;

  void write(std::string_view bytes);
  // Gives the host as much as it takes now.
  void push();
  void add_to(PollSet& set) const;

  std::size_t buffered() const { return buffer_.size() - done_; }
  // More than 64 KiB wait, or an error waits to be taken.
  bool backlogged() const;
  // The error that stopped the output, once. Where the host may take the bytes later (a full disk) they are
  // kept and tried again after this; where it never will (a closed pipe, a terminal that hung up) they are
  // dropped.
  std::optional<Error> take_error();
  // The other side is gone for good.
  bool dead() const { return dead_; }

  // Calls push() until nothing is left, for at most `timeout_ns`; the error, if there is one.
  Status drain(u64 timeout_ns);

 private:
  // Bytes written, 0 when the host takes none now, -1 with errno.
  long write_some(std::string_view bytes);

  int fd_;
  bool own_;
  enum class Mode { nonblocking, socket, blocking, regular } mode_;
  std::string name_;
  std::string buffer_;
  std::size_t done_ = 0;  // bytes of buffer_ already written
  std::optional<Error> error_;
  bool dead_ = false;
};

// Writes port 0 to a file descriptor and drops all else, as a replay shows it.
class FdSerialOutput : public SerialOutput {
 public:
  explicit FdSerialOutput(int fd) : stream_(fd, false, "standard output") {}
  void write(u8 port, std::string_view bytes) override {
    if (port == 0) stream_.write(bytes);
  }
  bool backlogged() const override { return stream_.backlogged(); }
  Status drain(u64 timeout_ns) override { return stream_.drain(timeout_ns); }

 private:
  OutputStream stream_;
};

}  // namespace deja
