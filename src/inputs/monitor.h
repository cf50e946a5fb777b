// The monitor: line commands to a running session, typed at the terminal (Ctrl-A c) or sent to a unix socket.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "inputs/input.h"
#include "inputs/output_stream.h"
#include "inputs/poll_set.h"
#include "inputs/unix_socket.h"

namespace deja {

// Actions that the session takes at once when the monitor asks; called from within InputSource::poll(). An
// empty function is an action that it cannot take.
struct MonitorActions {
  std::function<std::string()> status;
  // Each returns the text to answer with.
  std::function<Result<std::string>(const std::string& name)> start_recording;
  std::function<Result<std::string>()> stop_recording;
  std::function<Result<std::string>(const std::string& file)> screendump;
};

struct MonitorAnswer {
  std::string text;               // to print, whole lines
  std::vector<HostInput> inputs;  // inputs that the command puts into the session
};
// Runs one command line (any bytes; hostile).
MonitorAnswer run_monitor_command(std::string_view line, const MonitorActions& actions);

// One person or script talking to the monitor. Takes bytes, answers by way of an OutputStream.
class MonitorSession {
 public:
  // `interactive`: prompt, echo and the editing keys Backspace and Ctrl-U, for a terminal in raw mode.
  MonitorSession(OutputStream& out, bool interactive) : out_(out), interactive_(interactive) {}

  void prompt();
  void feed(std::string_view bytes);
  // End of input: a last line without newline counts.
  void end();
  // Enough lines wait; no more should be fed for now.
  bool full() const { return lines_.size() >= 64; }
  bool has_line() const { return !lines_.empty(); }
  // Runs waiting lines up to and including the first that yields inputs. A line behind it (say, `status`)
  // must find the session in the state that these lead to, so it waits for the next call.
  void run(const MonitorActions& actions, std::vector<HostInput>& out);

 private:
  void take_byte(char c);

  OutputStream& out_;
  bool interactive_;
  std::string line_;
  bool too_long_ = false;
  std::vector<std::string> lines_;
};

// Listens on a unix socket; several clients at a time, plain lines in, plain lines out.
class MonitorSocket {
 public:
  static Result<std::unique_ptr<MonitorSocket>> create(const std::string& path);

  void add_to(PollSet& set) const;
  void service(const PollSet& set);
  bool has_line() const;
  void run(const MonitorActions& actions, std::vector<HostInput>& out);

 private:
  struct Client {
    explicit Client(int fd) : fd(fd), out(fd, true, "monitor client"), session(out, false) {}
    int fd;
    OutputStream out;  // owns fd
    MonitorSession session;
    bool input_ended = false;
  };
  explicit MonitorSocket(ListeningSocket socket) : socket_(std::move(socket)) {}

  ListeningSocket socket_;
  std::vector<std::unique_ptr<Client>> clients_;
};

}  // namespace deja
