// Logging. The default shows warnings and errors on standard error; `--log=CATEGORY[,CATEGORY…]` shows more.
// The last few hundred records of every level are kept in memory and dumped when a CHECK fails.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace deja {

enum class LogLevel { debug, info, warn, error };

// Writes one record. Never touches machine state; cheap when the category is off.
void log_write(LogLevel level, std::string_view category, const std::string& message);
bool log_enabled(LogLevel level, std::string_view category);

// Enables categories: "all" or names such as "guest,devices,translate". Returns false on an empty name.
bool log_enable(std::string_view categories);

void dump_recent_log(std::FILE* out);

template <class... Args>
void log_debug(std::string_view category, fmt::format_string<Args...> f, Args&&... args) {
  if (log_enabled(LogLevel::debug, category))
    log_write(LogLevel::debug, category, fmt::format(f, std::forward<Args>(args)...));
}
// What a guest did that a person debugging it wants to know (unknown MSR, bad port…). Kept in the ring.
template <class... Args>
void log_info(std::string_view category, fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::info, category, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_warn(std::string_view category, fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::warn, category, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(std::string_view category, fmt::format_string<Args...> f, Args&&... args) {
  log_write(LogLevel::error, category, fmt::format(f, std::forward<Args>(args)...));
}

}  // namespace deja
