// A listening unix stream socket that disappears with its object.
#pragma once

#include <string>

#include "base/result.h"

namespace deja {

class ListeningSocket {
 public:
  // Replaces a socket that nobody listens on any more; refuses one in use, and any other file. Only the user
  // may connect. Paths longer than sockaddr_un takes (107 bytes) work too.
  static Result<ListeningSocket> create(const std::string& path);
  ListeningSocket(ListeningSocket&& o) noexcept : path_(std::move(o.path_)), fd_(o.fd_) { o.fd_ = -1; }
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  int fd() const { return fd_; }
  // A non-blocking connection, -1 when none waits.
  int accept();

 private:
  ListeningSocket(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

// Connects as a client (tests, `deja monitor`); blocking.
Result<int> connect_unix(const std::string& path);

}  // namespace deja
