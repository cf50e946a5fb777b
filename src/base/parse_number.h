// Numbers in text, all of it.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>

namespace deja {

// nullopt: not a number of this base, more than the number, or one that T cannot hold. No sign but '-', no
// "0x", no spaces.
template <std::integral T>
std::optional<T> parse_number(std::string_view text, int base = 10) {
  T value{};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value, base);
  if (error != std::errc() || end != last) return std::nullopt;
  return value;
}

// The same within bounds.
template <std::integral T>
std::optional<T> parse_number_within(std::string_view text, T least, T most) {
  const std::optional<T> value = parse_number<T>(text);
  return value && *value >= least && *value <= most ? value : std::nullopt;
}

// Hexadecimal digits, with "0x" in front or not.
template <std::unsigned_integral T>
std::optional<T> parse_hex(std::string_view text) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  return parse_number<T>(text, 16);
}

}  // namespace deja
