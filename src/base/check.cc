#include "base/check.h"

#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "base/printable.h"

namespace deja {
namespace {
constexpr int kMaxHooks = 8;
CrashHook g_hooks[kMaxHooks];
int g_hook_count = 0;
}  // namespace

void add_crash_hook(CrashHook hook) {
  if (g_hook_count < kMaxHooks) g_hooks[g_hook_count++] = hook;
}

void run_crash_hooks() {
  while (g_hook_count > 0) g_hooks[--g_hook_count]();
}

void check_failed(const char* file, int line, const char* expression, const std::string& context) {
  run_crash_hooks();
  std::fprintf(stderr, "\ndeja: internal error: %s:%d: %s%s%s\n", file, line, expression,
               context.empty() ? "" : ": ", printable(context).c_str());
  dump_recent_log(stderr);
  std::fprintf(stderr, "deja: this is a bug in DejaVM; the recording up to the last flush is intact\n");
  std::fflush(stderr);
  std::abort();
}

}  // namespace deja
