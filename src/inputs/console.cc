#include "inputs/console.h"

#include "base/printable.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace deja {
namespace {

constexpr char kCtrlA = 1;

constexpr std::string_view kHelp =
    "\n"
    "Ctrl-A h    this help\n"
    "Ctrl-A x    end the recording and leave\n"
    "Ctrl-A c    switch between the serial line and the monitor\n"
    "Ctrl-A b    send BREAK (magic SysRq)\n"
    "Ctrl-A Ctrl-A    send Ctrl-A\n";

}  // namespace

Console::Console(int stdin_fd, int stdout_fd)
    : in_fd_(stdin_fd),
      terminal_(stdin_fd),
      out_(stdout_fd, false, "standard output"),
      monitor_(out_, terminal_.is_terminal()) {
  terminal_.enter_raw();
}

Console::~Console() {
  constexpr u64 kLastWordNs = 100'000'000;
  if (!terminal_.is_terminal() || !in_line_) return;
  out_.write("\n");
  (void)out_.drain(kLastWordNs).ok();
}

void Console::write(std::string_view bytes) {
  if (!bytes.empty()) in_line_ = bytes.back() != '\n' && bytes.back() != '\r';
  out_.write(bytes);
}

// A person at a terminal must reach the escape keys also while the guest takes nothing; a pipe or file is
// held back.
bool Console::wants_input() const {
  if (input_ended_ || monitor_.full()) return false;
  return terminal_.is_terminal() || !line_.full();
}

void Console::add_to(PollSet& set) const {
  if (wants_input()) set.add(in_fd_, POLLIN);
  out_.add_to(set);
}

void Console::service(const PollSet& set) {
  out_.push();
  if (!wants_input() || !set.readable(in_fd_)) return;
  char buffer[4096];
  // One read a round: a second could block.
  const ssize_t n = ::read(in_fd_, buffer, sizeof buffer);
  if (n > 0) {
    take_keys(std::string_view(buffer, static_cast<std::size_t>(n)));
  } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
    input_ended_ = true;
    monitor_.end();
  }
}

void Console::take_keys(std::string_view bytes) {
  while (!bytes.empty()) {
    if (escape_) {
      escape_ = false;
      escape_key(bytes.front());
      bytes.remove_prefix(1);
      continue;
    }
    const auto at = bytes.find(kCtrlA);
    const std::string_view plain = bytes.substr(0, at);
    if (in_monitor_) {
      monitor_.feed(plain);
    } else if (!terminal_.is_terminal() || !line_.full()) {
      line_.add_bytes(plain);
    }
    if (at == std::string_view::npos) return;
    escape_ = true;
    bytes.remove_prefix(at + 1);
  }
}

void Console::escape_key(char c) {
  switch (c) {
    case 'x':
      commands_.push_back(input::Quit{false, "Ctrl-A x"});
      break;
    case 'h':
    case '?':
      out_.write(kHelp);
      break;
    case 'b':
      line_.add_break();
      break;
    case 'c':
      in_monitor_ = !in_monitor_;
      if (in_monitor_) {
        out_.write("\nDejaVM monitor: `help` lists the commands, Ctrl-A c leads back\n");
        monitor_.prompt();
      } else {
        out_.write("\n");
      }
      break;
    case kCtrlA:
      if (!in_monitor_) line_.add_bytes(std::string_view(&kCtrlA, 1));
      break;
    default:
      break;  // QEMU ignores other keys too
  }
}

bool Console::input_waiting(std::size_t room) const {
  return !commands_.empty() || monitor_.has_line() || line_.waiting(room);
}

void Console::take_input(u8 port, std::size_t room, const MonitorActions& actions,
                         std::vector<HostInput>& out) {
  line_.take(port, room, out);
  out.insert(out.end(), std::make_move_iterator(commands_.begin()), std::make_move_iterator(commands_.end()));
  commands_.clear();
  monitor_.run(actions, out);
}

bool Console::notify(std::string_view line) {
  if (!terminal_.is_terminal()) return false;
  out_.write(show("\ndeja: {}\n", line));
  out_.push();
  return true;
}

}  // namespace deja
