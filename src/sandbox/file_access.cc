#include "sandbox/file_access.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/types.h"

namespace deja {
namespace {

constexpr u64 kReadFile = LANDLOCK_ACCESS_FS_READ_FILE, kReadDir = LANDLOCK_ACCESS_FS_READ_DIR;
constexpr u64 kWriteFile = LANDLOCK_ACCESS_FS_WRITE_FILE;
constexpr u64 kRefer = u64{1} << 13, kTruncate = u64{1} << 14;  // of versions 2 and 3
constexpr u64 kVersion1 = (u64{1} << 13) - 1;
constexpr u64 kChangeDir = LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                           LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
                           LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_SOCK | kRefer;

u64 known_rights(int version) {
  return kVersion1 | (version >= 2 ? kRefer : 0) | (version >= 3 ? kTruncate : 0);
}

Status add_rule(int rules, const std::filesystem::path& path, u64 rights) {
  const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) return {};
  struct stat st {};
  if (::fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) rights &= kReadFile | kWriteFile | kTruncate;
  const landlock_path_beneath_attr rule{rights, fd};
  const long failed = ::syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  const int error = errno;
  ::close(fd);
  if (failed) return make_error("sandbox: {}: {}", path.string(), std::strerror(error));
  return {};
}

}  // namespace

int landlock_version() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version < 0 ? 0 : static_cast<int>(version);
}

Status limit_files(const FileAccess& access) {
  const u64 known = known_rights(landlock_version());
  const landlock_ruleset_attr attributes{known};
  const int rules =
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0));
  if (rules < 0) return make_error("sandbox: Landlock: {}", std::strerror(errno));
  Status status;
  for (const auto& path : access.read)
    if (status) status = add_rule(rules, path, kReadFile | kReadDir);
  for (const auto& path : access.write)
    if (status)
      status = add_rule(rules, path, (kReadFile | kReadDir | kWriteFile | kChangeDir | kTruncate) & known);
  if (status && ::syscall(SYS_landlock_restrict_self, rules, 0) != 0)
    status = make_error("sandbox: Landlock: {}", std::strerror(errno));
  ::close(rules);
  return status;
}

}  // namespace deja
