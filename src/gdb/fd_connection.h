// A connection to gdb over a socket.
#pragma once

#include "gdb/server.h"

namespace deja {

class FdConnection final : public GdbConnection {
 public:
  // Takes the descriptor over.
  explicit FdConnection(int fd) : fd_(fd) {}
  ~FdConnection() override;
  FdConnection(const FdConnection&) = delete;

  bool receive(std::string* bytes, bool wait) override;
  bool send(std::string_view bytes) override;

 private:
  int fd_;
};

// Waits for one connection to 127.0.0.1:`port`. `announce` is called once the port is open, with its number
// (which matters when `port` is 0: any).
Result<int> accept_tcp(u16 port, const std::function<void(u16)>& announce);

}  // namespace deja
