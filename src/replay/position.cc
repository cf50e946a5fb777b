#include "replay/position.h"

#include <algorithm>
#include <charconv>

namespace deja {

Status check_position(Step step, StepRange steps) {
  if (step < steps.first)
    return make_error("step {} is before the beginning of the recording, which is step {}",
                      format_count(step), format_count(steps.first));
  if (step > steps.last)
    return make_error("step {} is behind the end of the recording, which is step {}", format_count(step),
                      format_count(steps.last));
  return {};
}

Result<Step> parse_position(std::string_view text, StepRange steps) {
  if (text == "start") return steps.first;
  if (text == "end") return steps.last;
  std::string digits(text);
  const bool percent = digits.ends_with('%');
  if (percent) digits.pop_back();
  std::erase_if(digits, [](char c) { return c == ',' || c == '_'; });
  u64 n = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, n);
  if (error != std::errc() || stop != end)
    return make_error(
        "'{}' is not a position; write a step number, a percentage such as 50%, `start` or `end`", text);
  if (percent) {
    if (n > 100) return make_error("'{}' is not a position: 0% to 100% are possible", text);
    return steps.first + static_cast<Step>(u128{steps.last - steps.first} * n / 100);
  }
  DEJA_TRY(check_position(n, steps));
  return n;
}

std::string format_count(u64 n) {
  std::string s = std::to_string(n);
  for (int i = static_cast<int>(s.size()) - 3; i > 0; i -= 3) s.insert(static_cast<std::size_t>(i), ",");
  return s;
}

}  // namespace deja
