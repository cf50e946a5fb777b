// A connection to gdb over a socket.
#pragma once

#include <utility>

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

// Listens at 127.0.0.1; a connection is made at once, and served when the listener comes to it.
class TcpListener {
 public:
  // 0: any port that is free.
  static Result<TcpListener> create(u16 port);
  TcpListener(TcpListener&& o) noexcept : fd_(std::exchange(o.fd_, -1)), port_(o.port_) {}
  TcpListener& operator=(TcpListener&&) = delete;
  ~TcpListener();

  u16 port() const { return port_; }
  // Waits for a connection.
  Result<int> accept();

 private:
  TcpListener(int fd, u16 port) : fd_(fd), port_(port) {}
  int fd_;
  u16 port_;
};

}  // namespace deja
