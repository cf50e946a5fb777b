#include "cli/messages.h"

#include <array>
#include <cstdio>
#include <utility>

#include "cli/verbs.h"
#include "replay/position.h"

namespace deja {

int fail(const Error& error) {
  note(error.message);
  return kExitError;
}

void note(std::string_view text) { std::fputs(fmt::format("deja: {}\n", text).c_str(), stderr); }

std::string seconds(u64 ns) { return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9); }

std::string bytes(u64 n) {
  constexpr std::array units{"KiB", "MiB", "GiB", "TiB"};
  if (n < 1024) return fmt::format("{} bytes", n);
  double x = static_cast<double>(n) / 1024;
  std::size_t unit = 0;
  while (x >= 1024 && unit + 1 < units.size()) x /= 1024, ++unit;
  return fmt::format("{:.1f} {}", x, units[unit]);
}

std::string counters_text(const EngineCounters& c) {
  const std::pair<const char*, u64> rows[] = {
      {"blocks translated", c.blocks},
      {"instructions translated", c.translated_insns},
      {"dispatches", c.dispatches},
      {"blocks linked", c.links},
      {"budget expirations", c.expirations},
      {"slow memory accesses", c.mem_slow},
      {"bounced accesses committed", c.commits},
      {"helper calls", c.helpers},
      {"exceptions and interrupts", c.faults},
      {"of these, interrupts", c.interrupts},
      {"page-table writes that dropped entries", c.table_drops},
      {"code invalidations", c.code_invalidations},
      {"cache flushes", c.cache_flushes},
  };
  std::string text;
  for (const auto& [name, value] : rows) text += fmt::format("{:>16}  {}\n", format_count(value), name);
  return text;
}

}  // namespace deja
