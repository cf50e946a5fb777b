// Logging. The default shows warnings and errors on standard error; `--log=CATEGORY[,CATEGORY…]` shows more.
// The last few hundred records of every level are kept in memory and dumped when a CHECK fails.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/result.h"

namespace deja {

enum class LogLevel { debug, info, warn, error };

inline constexpr std::array<std::string_view, 15> kLogCategories = {
    "boot", "devices",   "disk",    "engine", "guest",   "guest-control", "inputs",   "machine",
    "net",  "recording", "sandbox", "serial", "symbols", "timeline",      "translate"};

// One of kLogCategories; another one does not compile.
class LogCategory {
 public:
  template <std::size_t kSize>
  consteval LogCategory(const char (&name)[kSize]) : name_(name) {
    if (std::find(kLogCategories.begin(), kLogCategories.end(), name_) == kLogCategories.end())
      throw "not in kLogCategories";
  }
  std::string_view name() const { return name_; }

 private:
  std::string_view name_;
};

// Writes one record. Never touches machine state; cheap when the category is off.
void log_write(LogLevel level, LogCategory category, const std::string& message);
bool log_enabled(LogLevel level, LogCategory category);

// Enables categories: "all" or names such as "guest,devices,translate". An error says which are there.
Status log_enable(std::string_view categories);

void dump_recent_log(std::FILE* out);

template <class... Args>
void log_debug(LogCategory category, fmt::format_string<Args...> f, Args&&... args) {
  if (log_enabled(LogLevel::debug, category))
    log_write(LogLevel::debug, category, fmt::format(f, std::forward<Args>(args)...));
}
// What a guest did that a person debugging it wants to know (unknown MSR, bad port…). Kept in the ring.
template <class... Args>
void log_info(LogCategory category, fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::info, category, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_warn(LogCategory category, fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::warn, category, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(LogCategory category, fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::error, category, fmt::format(f, std::forward<Args>(args)...));
}

}  // namespace deja
