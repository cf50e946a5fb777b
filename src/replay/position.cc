#include "replay/position.h"

#include "base/parse_number.h"

#include <algorithm>

namespace deja {

Result<Step> StepRange::whole_end() const {
  if (!damage) return last;
  if (end) return *end;
  return make_error("where the recording ends is not known, since it is damaged: {}", damage->message);
}

std::string StepRange::damage_note() const {
  if (!damage) return {};
  return fmt::format("; only the part up to step {} could be looked at, since the recording is damaged: {}",
                     format_count(last), damage->message);
}

Status check_position(Step step, const StepRange& steps) {
  if (step < steps.first)
    return make_error("step {} is before the beginning of the recording, which is step {}",
                      format_count(step), format_count(steps.first));
  if (step > steps.last && steps.damage)
    return make_error("step {} is behind step {}, up to which the recording is intact: {}",
                      format_count(step), format_count(steps.last), steps.damage->message);
  if (step > steps.last)
    return make_error("step {} is behind the end of the recording, which is step {}", format_count(step),
                      format_count(steps.last));
  return {};
}

Result<Step> parse_position(std::string_view text, const StepRange& steps) {
  if (text == "start") return steps.first;
  std::string digits(text == "end" ? "100%" : text);
  const bool percent = digits.ends_with('%');
  if (percent) digits.pop_back();
  std::erase_if(digits, [](char c) { return c == ',' || c == '_'; });
  const std::optional<u64> n = parse_number<u64>(digits);
  if (!n)
    return make_error(
        "'{}' is not a position; write a step number, a percentage such as 50%, `start` or `end`", text);
  Step step = *n;
  if (percent) {
    if (*n > 100) return make_error("'{}' is not a position: 0% to 100% are possible", text);
    auto end = steps.whole_end();
    if (!end) return make_error("'{}': {}", text, end.error().message);
    step = steps.first + static_cast<Step>(u128{*end - steps.first} * *n / 100);
  }
  DEJA_TRY(check_position(step, steps));
  return step;
}

std::string format_count(u64 n) {
  std::string s = std::to_string(n);
  for (int i = static_cast<int>(s.size()) - 3; i > 0; i -= 3) s.insert(static_cast<std::size_t>(i), ",");
  return s;
}

}  // namespace deja
