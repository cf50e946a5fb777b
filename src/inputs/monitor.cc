#include "inputs/monitor.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/printable.h"
#include "inputs/keys.h"

namespace deja {
namespace {

constexpr std::size_t kMaxLine = 1024;
constexpr std::size_t kShownOfName = 40;  // of a command that there is not
constexpr std::size_t kMaxClients = 8;
constexpr std::size_t kMaxUnread = 256 * 1024;  // bytes of answers that a client may leave unread

enum class Verb {
  help,
  status,
  pause,
  resume,
  power,
  nmi,
  serial_break,
  sysrq,
  reset,
  sendkey,
  mark,
  record,
  screendump,
  quit
};

struct Command {
  std::string_view name;
  std::string_view qemu_name;  // what QEMU's monitor calls it; accepted as well
  Verb verb;
  std::string_view argument;  // "" none, "[X]" optional, "X" required
  std::string_view help;
};

constexpr Command kCommands[] = {
    {"help", "?", Verb::help, "", "this list"},
    {"status", "info", Verb::status, "[status]", "where the machine is and what the recording holds"},
    {"pause", "stop", Verb::pause, "", "stop the machine; guest time stands still"},
    {"resume", "cont", Verb::resume, "", "let it go on"},
    {"power", "system_powerdown", Verb::power, "", "press the power button (ACPI)"},
    {"nmi", "", Verb::nmi, "", "press the NMI button"},
    {"break", "", Verb::serial_break, "[PORT]", "send BREAK on serial port PORT (default 0)"},
    {"sysrq", "", Verb::sysrq, "KEY", "send BREAK and KEY on serial port 0: magic SysRq"},
    {"reset", "system_reset", Verb::reset, "", "press the reset button"},
    {"sendkey", "", Verb::sendkey, "KEYS",
     "press and release keys on the keyboard, such as a, ret or ctrl-alt-f2"},
    {"mark", "", Verb::mark, "TEXT", "write a note into the recording at this moment"},
    {"record", "", Verb::record, "start [NAME] | stop",
     "begin a recording at this moment, or end it; the machine runs on"},
    {"screendump", "", Verb::screendump, "FILE.png", "write the picture on the screen into a new file"},
    {"quit", "q", Verb::quit, "", "end the recording and leave"},
};

std::string_view trim(std::string_view s) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!s.empty() && blank(s.front())) s.remove_prefix(1);
  while (!s.empty() && blank(s.back())) s.remove_suffix(1);
  return s;
}

std::string help_text() {
  std::string text;
  for (const Command& c : kCommands) {
    text += show("{:<16} {}", show("{} {}", c.name, c.argument), c.help);
    if (!c.qemu_name.empty()) text += show(" (also: {})", c.qemu_name);
    text += '\n';
  }
  return text;
}

MonitorAnswer answer(const Result<std::string>& outcome) {
  return {outcome ? printable(outcome.value()) + "\n" : show("error: {}\n", outcome.error().message), {}};
}

MonitorAnswer record(std::string_view argument, const MonitorActions& actions) {
  const auto space = argument.find_first_of(" \t");
  const std::string_view what = argument.substr(0, space);
  const std::string name(space == std::string_view::npos ? "" : trim(argument.substr(space)));
  if (what == "start" && actions.start_recording) return answer(actions.start_recording(name));
  if (what == "stop" && name.empty() && actions.stop_recording) return answer(actions.stop_recording());
  return {"error: usage: record start [NAME] or record stop\n", {}};
}

const Command* find_command(std::string_view name) {
  for (const Command& c : kCommands)
    if (name == c.name || (!c.qemu_name.empty() && name == c.qemu_name)) return &c;
  return name == "c" ? find_command("resume") : nullptr;
}

}  // namespace

MonitorAnswer run_monitor_command(std::string_view line, const MonitorActions& actions) {
  line = trim(line);
  if (line.empty()) return {};
  const auto space = line.find_first_of(" \t");
  const std::string_view name = line.substr(0, space);
  const std::string_view argument = space == std::string_view::npos ? "" : trim(line.substr(space));
  const Command* command = find_command(name);
  if (!command)
    return {show("error: unknown command '{}'; `help` lists them\n", name.substr(0, kShownOfName)), {}};
  if (command->argument.empty() && !argument.empty())
    return {show("error: {} takes no argument\n", command->name), {}};
  if (!command->argument.empty() && command->argument[0] != '[' && argument.empty())
    return {show("error: usage: {} {}\n", command->name, command->argument), {}};

  const auto ok = [](auto... inputs) { return MonitorAnswer{"ok\n", {HostInput(std::move(inputs))...}}; };
  switch (command->verb) {
    case Verb::help:
      return {help_text(), {}};
    case Verb::status: {
      std::string text = actions.status ? actions.status() : "no session";
      if (!text.ends_with('\n')) text += '\n';
      return {std::move(text), {}};
    }
    case Verb::pause:
      return ok(input::Pause{});
    case Verb::resume:
      return ok(input::Resume{});
    case Verb::power:
      return ok(input::PowerButton{});
    case Verb::nmi:
      return ok(input::NmiButton{});
    case Verb::serial_break: {
      if (argument.empty()) return ok(input::SerialBreak{0});
      if (argument.size() != 1 || argument[0] < '0' || argument[0] > '3')
        return {"error: PORT is 0 to 3\n", {}};
      return ok(input::SerialBreak{static_cast<u8>(argument[0] - '0')});
    }
    case Verb::sysrq: {
      if (argument.size() != 1) return {"error: KEY is one character; `sysrq h` makes Linux list them\n", {}};
      return ok(input::SerialBreak{0}, input::SerialBytes{0, std::string(argument)});
    }
    case Verb::reset:
      return ok(input::ResetButton{});
    case Verb::sendkey: {
      auto codes = scan_codes(argument);
      if (!codes) return {show("error: {}\n", codes.error().message), {}};
      return ok(input::Keys{std::move(*codes)});
    }
    case Verb::mark:
      return ok(input::Mark{std::string(argument)});
    case Verb::record:
      return record(argument, actions);
    case Verb::screendump:
      if (!actions.screendump) return {"error: no session\n", {}};
      return answer(actions.screendump(std::string(argument)));
    case Verb::quit:
      return ok(input::Quit{false, "monitor"});
  }
  return {};
}

void MonitorSession::prompt() {
  if (interactive_) out_.write("(deja) ");
}

void MonitorSession::take_byte(char c) {
  constexpr char kCtrlC = 3, kCtrlU = 21, kBackspace = 8, kDelete = 127;
  if (c == '\n' || (interactive_ && c == '\r')) {
    if (interactive_) out_.write("\n");
    if (too_long_) {
      out_.write(show("error: a line may have {} bytes\n", kMaxLine));
      prompt();
    } else {
      lines_.push_back(std::move(line_));
    }
    line_.clear();
    too_long_ = false;
    return;
  }
  if (interactive_ && (c == kCtrlU || c == kCtrlC)) {
    line_.clear();
    too_long_ = false;
    out_.write("\n");
    prompt();
    return;
  }
  if (interactive_ && (c == kBackspace || c == kDelete)) {
    if (line_.empty()) return;
    line_.pop_back();
    out_.write("\b \b");
    return;
  }
  if (interactive_ && static_cast<u8>(c) < 0x20) return;
  if (line_.size() >= kMaxLine) {
    too_long_ = true;
    return;
  }
  line_ += c;
  if (interactive_) out_.write(std::string_view(&c, 1));
}

void MonitorSession::feed(std::string_view bytes) {
  for (const char c : bytes) take_byte(c);
}

void MonitorSession::end() {
  if (!line_.empty()) take_byte('\n');
}

void MonitorSession::run(const MonitorActions& actions, std::vector<HostInput>& out) {
  while (!lines_.empty()) {
    const std::string line = std::move(lines_.front());
    lines_.erase(lines_.begin());
    MonitorAnswer answer = run_monitor_command(line, actions);
    out_.write(printable_lines(answer.text));
    prompt();
    if (answer.inputs.empty()) continue;
    out.insert(out.end(), std::make_move_iterator(answer.inputs.begin()),
               std::make_move_iterator(answer.inputs.end()));
    return;
  }
}

Result<std::unique_ptr<MonitorSocket>> MonitorSocket::create(const std::string& path) {
  DEJA_ASSIGN(ListeningSocket socket, ListeningSocket::create(path));
  return std::unique_ptr<MonitorSocket>(new MonitorSocket(std::move(socket)));
}

void MonitorSocket::add_to(PollSet& set) const {
  if (clients_.size() < kMaxClients) set.add(socket_.fd(), POLLIN);
  for (const auto& c : clients_) {
    if (!c->input_ended && !c->session.full()) set.add(c->fd, POLLIN);
    c->out.add_to(set);
  }
}

void MonitorSocket::service(const PollSet& set) {
  for (auto& c : clients_) {
    char buffer[4096];
    while (!c->input_ended && !c->session.full() && set.readable(c->fd)) {
      const ssize_t n = ::recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      if (n <= 0) {
        c->input_ended = true;
        c->session.end();
        break;
      }
      c->session.feed(std::string_view(buffer, static_cast<std::size_t>(n)));
    }
    c->out.push();
  }
  // A client that closed its side still gets its answers; one that does not read them is dropped.
  std::erase_if(clients_, [](const auto& c) {
    const bool done = c->input_ended && !c->session.has_line() && c->out.buffered() == 0;
    return done || c->out.dead() || c->out.buffered() > kMaxUnread;
  });
  if (set.readable(socket_.fd())) {
    while (clients_.size() < kMaxClients) {
      const int fd = socket_.accept();
      if (fd < 0) break;
      clients_.push_back(std::make_unique<Client>(fd));
    }
  }
}

bool MonitorSocket::has_line() const {
  return std::any_of(clients_.begin(), clients_.end(), [](const auto& c) { return c->session.has_line(); });
}

void MonitorSocket::run(const MonitorActions& actions, std::vector<HostInput>& out) {
  for (auto& c : clients_) {
    c->session.run(actions, out);
    c->out.push();
  }
}

}  // namespace deja
