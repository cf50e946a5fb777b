#include "base/log.h"

#include "base/printable.h"

#include <array>
#include <mutex>
#include <vector>

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

bool log_enabled(LogLevel level, std::string_view category) {
  return level >= LogLevel::warn || category_on(category);
}

void log_write(LogLevel level, std::string_view category, const std::string& message) {
  std::lock_guard lock(g_mutex);
  // One line, whatever a guest or a file has put into it.
  std::string line = show("deja: {}: [{}] {}", level_name(level), category, message);
  if (level >= LogLevel::warn || category_on(category)) {
    std::fputs((line + "\r\n").c_str(), stderr);
  }
  g_ring[g_next++ % kRing] = std::move(line);
}

bool log_enable(std::string_view categories) {
  while (true) {
    const auto comma = categories.find(',');
    const auto name = categories.substr(0, comma);
    if (name.empty()) return false;
    if (name == "all") g_all = true;
    g_categories.emplace_back(name);
    if (comma == std::string_view::npos) return true;
    categories.remove_prefix(comma + 1);
  }
}

void dump_recent_log(std::FILE* out) {
  const std::size_t first = g_next > kRing ? g_next - kRing : 0;
  for (std::size_t i = first; i < g_next; ++i) std::fprintf(out, "  %s\n", g_ring[i % kRing].c_str());
}

}  // namespace deja
