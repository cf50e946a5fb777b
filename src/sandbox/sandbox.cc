#include "sandbox/sandbox.h"

#include <dirent.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <string_view>
#include <vector>

#include "base/host_limits.h"
#include "base/log.h"

namespace deja::sandbox {
namespace {

namespace fs = std::filesystem;

struct {
  SandboxMode mode = SandboxMode::off;
  bool entered = false;
  FileAccess files;
  std::vector<int> inherited;  // descriptors
} g_process;

// Something that the host lacks is an error in strict mode, else a note.
Status lacks(const std::string& what, bool say) {
  if (g_process.mode == SandboxMode::strict)
    return make_error("--sandbox strict: {}; `--sandbox on` does without, `--sandbox off` does nothing",
                      what);
  if (say) log_warn("sandbox", "{}; the guest is confined by what is left (docs/security.md)", what);
  return {};
}

Status confine_process(Confined what, const FileAccess& files, bool say) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    DEJA_TRY(lacks("this process may not give up rights (PR_SET_NO_NEW_PRIVS): " + host_error(errno), say));
  if (auto version = landlock_version(); !version)
    DEJA_TRY(lacks(version.error().message, say));
  else
    DEJA_TRY(limit_files(files, *version));
  if (Status status = filter_system_calls(what); !status) DEJA_TRY(lacks(status.error().message, say));
  return {};
}

fs::path resolved(const fs::path& path) {
  std::error_code ec;
  const fs::path real = fs::weakly_canonical(path, ec);
  return ec ? fs::absolute(path, ec) : real;
}

}  // namespace

void note_inherited_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> all(::opendir("/proc/self/fd"), ::closedir);
  if (!all) return;
  while (const dirent* const entry = ::readdir(all.get())) {
    const std::string_view name = entry->d_name;
    int fd = -1;
    // "." and ".." are no numbers.
    std::from_chars(name.data(), name.data() + name.size(), fd);
    if (fd > STDERR_FILENO && fd != ::dirfd(all.get())) g_process.inherited.push_back(fd);
  }
}

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

Status check_host() {
  if (g_process.mode != SandboxMode::strict) return {};
  auto version = landlock_version();
  return version ? Status() : lacks(version.error().message, true);
}

Status enter() {
  if (!enabled() || g_process.entered) return {};
  for (const int fd : g_process.inherited) ::close(fd);
  g_process.inherited.clear();
  DEJA_TRY(confine_process(g_process.files.write.empty() ? Confined::replayer : Confined::recorder,
                           g_process.files, true));
  g_process.entered = true;
  return {};
}

Status enter_helper(Confined what, const FileAccess& files) {
  if (!enabled()) return {};
  return confine_process(what, files, false);
}

}  // namespace deja::sandbox
