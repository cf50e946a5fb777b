#include "cli/messages.h"

#include <array>
#include <cstdio>

#include "cli/verbs/verbs.h"
#include "replay/position.h"

namespace deja {

namespace {

std::optional<Error> damage_noted;

}  // namespace

void note_damage(const std::optional<Error>& damage) {
  if (damage) damage_noted = damage;
}

int exit_status(int status) {
  if (!damage_noted || status != kExitOk) return status;
  note("the recording is damaged, and this is of its intact part: {}", damage_noted->message);
  return kExitDamaged;
}

int fail(const Error& error) {
  note("{}", error.message);
  return kExitError;
}

void put(Channel channel, std::string_view shown) {
  std::fwrite(shown.data(), 1, shown.size(), channel == Channel::output ? stdout : stderr);
}

std::string seconds(u64 ns) { return show("{:.1f} s", static_cast<double>(ns) / 1e9); }

std::string bytes(u64 n) {
  constexpr std::array units{"KiB", "MiB", "GiB", "TiB"};
  if (n < 1024) return show("{} bytes", n);
  double x = static_cast<double>(n) / 1024;
  std::size_t unit = 0;
  while (x >= 1024 && unit + 1 < units.size()) x /= 1024, ++unit;
  return show("{:.1f} {}", x, units[unit]);
}

std::string counted(u64 n, std::string_view what) {
  return show("{} {}{}", format_count(n), what, n == 1 ? "" : "s");
}

}  // namespace deja
