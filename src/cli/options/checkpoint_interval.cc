#include "cli/options/checkpoint_interval.h"

#include "base/parse_number.h"

#include <algorithm>
#include <string>

namespace deja {
namespace {

constexpr Step kLeast = 100'000;

}  // namespace

Result<Step> parse_checkpoint_interval(std::string_view option, std::string_view text) {
  if (text == "off") return Step{0};
  std::string digits(text);
  std::erase_if(digits, [](char c) { return c == ',' || c == '_'; });
  u64 factor = 1;
  if (!digits.empty()) {
    const char unit = digits.back();
    factor = unit == 'k' || unit == 'K' ? 1'000 : unit == 'M' ? 1'000'000 : unit == 'G' ? 1'000'000'000 : 1;
    if (factor != 1) digits.pop_back();
  }
  const std::optional<u64> n = parse_number<u64>(digits);
  if (!n || *n > ~u64{0} / factor)
    return make_error("{} {}: not a number of steps; write something like 50M, or `off`", option, text);
  if (*n * factor < kLeast)
    return make_error("{} {}: at least {} steps must lie between two checkpoints", option, text, kLeast);
  return *n * factor;
}

}  // namespace deja
