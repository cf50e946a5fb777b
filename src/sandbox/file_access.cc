#include "sandbox/file_access.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/host_limits.h"
#include "base/types.h"

namespace deja {
namespace {

constexpr u64 kReadFile = LANDLOCK_ACCESS_FS_READ_FILE, kReadDir = LANDLOCK_ACCESS_FS_READ_DIR;
constexpr u64 kWriteFile = LANDLOCK_ACCESS_FS_WRITE_FILE, kMakeFile = LANDLOCK_ACCESS_FS_MAKE_REG;
constexpr u64 kRemoveFile = LANDLOCK_ACCESS_FS_REMOVE_FILE, kRemoveDir = LANDLOCK_ACCESS_FS_REMOVE_DIR;
constexpr u64 kMakeDir = LANDLOCK_ACCESS_FS_MAKE_DIR, kMakeLink = LANDLOCK_ACCESS_FS_MAKE_SYM;
// Rights of versions 2, 3 and 5. Without the first, files move and are linked within their directory only.
constexpr u64 kRefer = u64{1} << 13, kTruncate = u64{1} << 14, kDeviceControl = u64{1} << 15;
constexpr u64 kVersion1 = (u64{1} << 13) - 1;

constexpr u64 kRead = kReadFile | kReadDir;
constexpr u64 kWrite = kRead | kWriteFile | kTruncate | kMakeFile | kRemoveFile | kRemoveDir;
constexpr u64 kCreate = kWriteFile | kMakeFile | kTruncate;
constexpr u64 kArrange = kMakeDir | kMakeLink | kRemoveDir | kRemoveFile;
constexpr u64 kOfFiles = kReadFile | kWriteFile | kTruncate;

u64 known_rights(int version) {
  return kVersion1 | (version >= 2 ? kRefer : 0) | (version >= 3 ? kTruncate : 0) |
         (version >= 5 ? kDeviceControl : 0);
}

Status add_rule(int rules, const std::filesystem::path& path, u64 rights) {
  const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) {
    // A path that is not there, or cannot be reached, needs no rule. Too many open files are another matter:
    // without the rule the file could not be opened later, and "permission denied" would be said of it.
    if (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP || errno == ENAMETOOLONG)
      return {};
    return make_error("sandbox: {}: {}", path.string(), host_error(errno));
  }
  struct stat st {};
  if (::fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) rights &= kOfFiles;
  if (!rights) return ::close(fd), Status();
  const landlock_path_beneath_attr rule{rights, fd};
  const long failed = ::syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  const int error = errno;
  ::close(fd);
  if (failed) return make_error("sandbox: {}: {}", path.string(), host_error(error));
  return {};
}

Error why_none(int error) {
  switch (error) {
    case EOPNOTSUPP:
      return make_error(
          "Landlock, which limits the files that a process opens, is switched off on this host: add landlock "
          "to the list lsm= on the kernel's command line");
    case ENOSYS:
      return make_error(
          "this kernel has no Landlock, which limits the files that a process opens, or a container hides "
          "it: "
          "that takes Linux 5.13 built with CONFIG_SECURITY_LANDLOCK");
    default:
      return make_error(
          "this process may not use Landlock, which limits the files that a process opens ({}): something "
          "around it forbids landlock_create_ruleset, such as a container's seccomp profile; allow it there",
          host_error(error));
  }
}

}  // namespace

Result<int> landlock_version() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 0) return why_none(errno);
  return static_cast<int>(version);
}

Status limit_files(const FileAccess& access, int version) {
  const u64 known = known_rights(version);
  const landlock_ruleset_attr attributes{known};
  const int rules =
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0));
  if (rules < 0) return make_error("sandbox: Landlock: {}", host_error(errno));
  Status status;
  const auto allow = [&](const std::vector<std::filesystem::path>& paths, u64 rights) {
    for (const auto& path : paths)
      if (status) status = add_rule(rules, path, rights & known);
  };
  allow(access.read, kRead);
  allow(access.write, kWrite);
  allow(access.create, kCreate);
  allow(access.arrange, kArrange);
  if (status && ::syscall(SYS_landlock_restrict_self, rules, 0) != 0)
    status = make_error("sandbox: Landlock: {}", host_error(errno));
  ::close(rules);
  return status;
}

}  // namespace deja
