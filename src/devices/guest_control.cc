#include "devices/guest_control.h"

#include <charconv>
#include <optional>
#include <utility>

#include "base/log.h"

namespace deja {
namespace {

template <class Archive, class State>
void serialize(Archive& a, State& s) {
  a.field(s.line);
  a.field(s.length);
  a.field(s.too_long);
}

std::optional<GuestCommand> parse(std::string_view line) {
  using enum GuestCommand::Kind;
  if (line.starts_with("mark ")) {
    line.remove_prefix(5);
    if (line.empty()) return std::nullopt;
    return GuestCommand{mark, std::string(line), 0};
  }
  if (line == "record start") return GuestCommand{record_start, {}, 0};
  if (line.starts_with("record start ")) return GuestCommand{record_start, std::string(line.substr(13)), 0};
  if (line == "record stop") return GuestCommand{record_stop, {}, 0};
  if (line == "exit") return GuestCommand{exit, {}, 0};
  if (line.starts_with("exit ")) {
    u8 code = 0;
    const char* const last = line.data() + line.size();
    const auto [end, error] = std::from_chars(line.data() + 5, last, code);
    if (error == std::errc() && end == last) return GuestCommand{exit, {}, code};
  }
  return std::nullopt;
}

}  // namespace

void GuestControl::save(StateWriter& w) const { serialize(w, s_); }

bool GuestControl::restore(StateReader& r) {
  serialize(r, s_);
  if (r.ok()) return true;
  reset();
  return false;
}

void GuestControl::take_byte(u8 value) {
  if (value != '\n') {
    if (s_.length == kMaxLine)
      s_.too_long = true;
    else
      s_.line[s_.length++] = value;
    return;
  }
  const State taken = std::exchange(s_, {});
  if (taken.too_long)
    log_info("guest-control", "a line of more than {} bytes is dropped", kMaxLine);
  else
    take_line({reinterpret_cast<const char*>(taken.line.data()), taken.length});
}

void GuestControl::take_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return;
  const std::optional<GuestCommand> command = parse(line);
  if (!command)
    log_info("guest-control", "the guest asks for what is not known: '{}'", line);
  else if (marks_only_ && command->kind != GuestCommand::Kind::mark)
    log_info("guest-control", "'{}' is not allowed to this guest", line);
  else
    act_(*command);
}

}  // namespace deja
