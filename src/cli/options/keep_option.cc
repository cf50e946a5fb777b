#include "cli/options/keep_option.h"

#include <charconv>
#include <utility>

namespace deja {

Result<u64> parse_keep(std::string_view text) {
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"min", 60}, {"m", 60}, {"s", 1}, {"h", 3600}, {"d", 86400}};
  std::string_view digits = text;
  double seconds_per_unit = 1;
  for (const auto& [unit, seconds] : kUnits) {
    if (!text.ends_with(unit)) continue;
    digits.remove_suffix(unit.size());
    seconds_per_unit = seconds;
    break;
  }
  double n = 0;
  const auto [stop, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), n, std::chars_format::fixed);
  if (error != std::errc() || stop != digits.data() + digits.size())
    return make_error("--keep {}: not a length of time; write something like 30s, 10m or 2h", text);
  const double seconds = n * seconds_per_unit;
  if (!(seconds >= 1 && seconds <= 366 * 86400.0))
    return make_error("--keep {}: a second to a year can be kept", text);
  return static_cast<u64>(seconds * 1e9);
}

}  // namespace deja
