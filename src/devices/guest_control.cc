#include "devices/guest_control.h"

#include <optional>
#include <utility>

#include "base/log.h"
#include "base/parse_number.h"

namespace deja {
namespace {

template <class Archive, class State>
void serialize(Archive& a, State& s) {
  a.field(s.line);
  a.field(s.length);
  a.field(s.too_long);
  a.field(s.missing);
  a.field(s.missing_at);
  a.field(s.taken);
  a.field(s.refusing);
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
    if (const std::optional<u8> code = parse_number<u8>(line.substr(5))) return GuestCommand{exit, {}, *code};
  }
  return std::nullopt;
}

}  // namespace

void GuestControl::save(StateWriter& w) const { serialize(w, s_); }

bool GuestControl::restore(StateReader& r) {
  serialize(r, s_);
  if (r.ok() && s_.missing <= kMarkBurst && s_.taken <= kMostMarks) return true;
  s_ = {};
  return false;
}

void GuestControl::reset() {
  s_.line = {};
  s_.length = 0;
  s_.too_long = false;
}

void GuestControl::take_byte(u8 value) {
  if (value != '\n') {
    if (s_.length == kMaxLine)
      s_.too_long = true;
    else
      s_.line[s_.length++] = value;
    return;
  }
  const State taken = s_;
  reset();
  if (taken.too_long)
    log_info("guest-control", "a line of more than {} bytes is dropped", kMaxLine);
  else
    take_line({reinterpret_cast<const char*>(taken.line.data()), taken.length});
}

bool GuestControl::may_mark(std::size_t size) {
  const VtimeNs now = time_.now();
  const u64 refilled = (now - s_.missing_at) / kMarkRefillNs;
  if (refilled >= s_.missing) {
    s_.missing = 0;
    s_.missing_at = now;
  } else {
    s_.missing -= refilled;
    s_.missing_at += refilled * kMarkRefillNs;
  }
  const u64 cost = size + kMarkCost;
  if (s_.missing + cost > kMarkBurst || s_.taken + cost > kMostMarks) return false;
  s_.missing += cost;
  s_.taken += cost;
  return true;
}

bool GuestControl::take_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return true;
  const std::optional<GuestCommand> command = parse(line);
  if (!command) {
    log_info("guest-control", "the guest asks for what is not known: '{}'", line);
    return true;
  }
  if (command->kind == GuestCommand::Kind::mark) {
    const bool refused = !may_mark(command->text.size());
    const bool refused_before = std::exchange(s_.refusing, refused);
    if (refused && !refused_before) act_({GuestCommand::Kind::marks_refused, {}, 0});
    if (refused) return false;
  } else if (marks_only_) {
    log_info("guest-control", "'{}' is not allowed to this guest", line);
    return true;
  }
  act_(*command);
  return true;
}

}  // namespace deja
