#include "sandbox/sandbox.h"

#include <sys/prctl.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "sandbox/file_access.h"
#include "sandbox/system_calls.h"

namespace deja::sandbox {
namespace {

namespace fs = std::filesystem;

struct {
  SandboxMode mode = SandboxMode::off;
  bool entered = false;
  FileAccess files;
} g_process;

// What the host lacks is an error or only worth a word.
Status lacks(const std::string& what) {
  if (g_process.mode == SandboxMode::strict)
    return make_error("--sandbox strict: {}; `--sandbox on` does without, `--sandbox off` does nothing",
                      what);
  log_warn("sandbox", "{}; the guest is confined by DejaVM's own checks only (docs/security.md)", what);
  return {};
}

fs::path resolved(const fs::path& path) {
  std::error_code ec;
  const fs::path real = fs::weakly_canonical(path, ec);
  return ec ? fs::absolute(path, ec) : real;
}

}  // namespace

void set_mode(SandboxMode mode) { g_process.mode = mode; }
bool enabled() { return g_process.mode != SandboxMode::off; }
bool entered() { return g_process.entered; }
void allow_read(const fs::path& path) { g_process.files.read.push_back(resolved(path)); }
void allow_write(const fs::path& path) { g_process.files.write.push_back(resolved(path)); }

bool may_write(const fs::path& path) {
  if (!enabled()) return true;
  const fs::path whole = resolved(path);
  for (const fs::path& allowed : g_process.files.write)
    if (const fs::path rest = whole.lexically_relative(allowed); !rest.empty() && *rest.begin() != "..")
      return true;
  return false;
}

Status enter() {
  if (!enabled() || g_process.entered) return {};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) DEJA_TRY(lacks(std::strerror(errno)));
  if (landlock_version() == 0)
    DEJA_TRY(lacks("this kernel cannot limit which files a process opens (Landlock, Linux 5.13)"));
  else
    DEJA_TRY(limit_files(g_process.files));
  if (Status status = filter_system_calls(Confined::engine); !status) DEJA_TRY(lacks(status.error().message));
  g_process.entered = true;
  return {};
}

}  // namespace deja::sandbox
