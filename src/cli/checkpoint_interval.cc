#include "cli/checkpoint_interval.h"

#include <algorithm>
#include <charconv>
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
  u64 n = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, n);
  if (error != std::errc() || stop != end || n > ~u64{0} / factor)
    return make_error("{} {}: not a number of steps; write something like 50M, or `off`", option, text);
  if (n * factor < kLeast)
    return make_error("{} {}: at least {} steps must lie between two checkpoints", option, text, kLeast);
  return n * factor;
}

}  // namespace deja
