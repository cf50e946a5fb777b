// A child process that does one thing which this process had better not do, and is confined to that. The two
// talk in messages over a socket pair; when one side ends, so does the other's socket.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sandbox/file_access.h"
#include "sandbox/system_calls.h"

namespace deja {

// The largest message, so that a socket with the kernel's usual limits takes it.
inline constexpr std::size_t kMaxMessage = 96 * 1024;

// Sends a whole message over a SOCK_SEQPACKET socket. `fd`, when not -1, goes along. False: the other side is
// gone, or (with `wait` off) the message cannot be sent now.
bool send_message(int socket, std::string_view bytes, int fd = -1, bool wait = true);
struct Message {
  std::string bytes;
  int fd = -1;  // the receiver's to close
};
// Receives one. Empty: the other side is gone, or (with `wait` off) there is none now; `*gone` tells which.
std::optional<Message> receive_message(int socket, bool wait = true, bool* gone = nullptr);

class HelperProcess {
 public:
  // Forks. `body` runs in the child with its end of the socket; what it returns is the exit status. It calls
  // confine() as soon as it has what it needs. `name` is shown in lists of processes, at most 15 bytes.
  static Result<std::unique_ptr<HelperProcess>> start(const std::string& name,
                                                      const std::function<int(int socket)>& body);
  // Called in the child. Where the host cannot do all of it, the child goes on or ends as the sandbox's mode
  // has it for the process that started it.
  static void confine(Confined what, const FileAccess& files);

  // Closes the socket, at which the child ends, and waits for it.
  ~HelperProcess();
  HelperProcess(const HelperProcess&) = delete;

  int socket() const { return socket_; }

 private:
  HelperProcess(int socket, pid_t child) : socket_(socket), child_(child) {}
  int socket_;
  pid_t child_;
};

}  // namespace deja
