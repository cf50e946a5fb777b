// Assertions that stay on in release builds. A failed CHECK is a bug in DejaVM, never something that a guest
// or a user caused: it prints the expression, the context given, the last log records, and aborts.
#pragma once

#include <fmt/format.h>

#include <string>

namespace deja {

// Called just before an abort, newest first; used to dump the last machine events and to restore the
// terminal.
using CrashHook = void (*)();
void add_crash_hook(CrashHook hook);
void run_crash_hooks();

[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               const std::string& context);

}  // namespace deja

#define DEJA_CHECK(cond, ...)                                                         \
  do {                                                                                \
    if (__builtin_expect(!(cond), 0))                                                 \
      ::deja::check_failed(__FILE__, __LINE__, #cond, ::fmt::format("" __VA_ARGS__)); \
  } while (0)

#define DEJA_UNREACHABLE(...) \
  ::deja::check_failed(__FILE__, __LINE__, "unreachable", ::fmt::format("" __VA_ARGS__))
