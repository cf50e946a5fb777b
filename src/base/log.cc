#include "base/log.h"

#include <fmt/ranges.h>

#include <mutex>
#include <vector>

#include "base/printable.h"

namespace deja {
namespace {

constexpr std::size_t kRing = 256;
std::mutex g_mutex;
std::array<std::string, kRing> g_ring;
std::size_t g_next = 0;
std::vector<std::string> g_categories;
bool g_all = false;

bool category_on(std::string_view category) {
  if (g_all) return true;
  for (const auto& c : g_categories)
    if (c == category) return true;
  return false;
}

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warn:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "?";
}

}  // namespace

bool log_enabled(LogLevel level, LogCategory category) {
  return level >= LogLevel::warn || category_on(category.name());
}

void log_write(LogLevel level, LogCategory category, const std::string& message) {
  std::lock_guard lock(g_mutex);
  // One line, whatever a guest or a file has put into it.
  std::string line = show("deja: {}: [{}] {}", level_name(level), category.name(), message);
  if (level >= LogLevel::warn || category_on(category.name())) {
    std::fputs((line + "\r\n").c_str(), stderr);
  }
  g_ring[g_next++ % kRing] = std::move(line);
}

Status log_enable(std::string_view categories) {
  std::vector<std::string> wanted;
  while (true) {
    const auto comma = categories.find(',');
    const auto name = categories.substr(0, comma);
    if (name != "all" &&
        std::find(kLogCategories.begin(), kLogCategories.end(), name) == kLogCategories.end())
      return make_error("there is no log category '{}'; there are all, {}", name,
                        fmt::join(kLogCategories, ", "));
    wanted.emplace_back(name);
    if (comma == std::string_view::npos) break;
    categories.remove_prefix(comma + 1);
  }
  for (std::string& name : wanted) {
    if (name == "all") g_all = true;
    g_categories.push_back(std::move(name));
  }
  return {};
}

void dump_recent_log(std::FILE* out) {
  const std::size_t first = g_next > kRing ? g_next - kRing : 0;
  for (std::size_t i = first; i < g_next; ++i) std::fprintf(out, "  %s\n", g_ring[i % kRing].c_str());
}

}  // namespace deja
