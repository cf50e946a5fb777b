// Limits the files that a process may still open to those it names: Landlock, the kernel's sandbox for
// processes without privileges (Linux Documentation/userspace-api/landlock.rst). Open files stay usable.
//
// Landlock knows files by how they are opened. It does not see truncate(2) and the like: the filter of system
// calls refuses those (system_calls.h).
#pragma once

#include <filesystem>
#include <vector>

#include "base/result.h"

namespace deja {

// Files, or directories with all that is below them. Paths that do not exist are left out.
struct FileAccess {
  std::vector<std::filesystem::path> read;
  // These may be read, too. In directories among them files may be made, replaced and removed.
  std::vector<std::filesystem::path> write;
  // Directories in which new files may be made, and written.
  std::vector<std::filesystem::path> create;
  // Directories in which directories and symbolic links may be made, renamed and removed; files may be
  // removed.
  std::vector<std::filesystem::path> arrange;
};

// The version of the kernel's Landlock. An error says why the kernel has none, and what to do.
Result<int> landlock_version();

// From here on the calling thread, and those that it starts, can open nothing else. Needs no_new_privs. Only
// rights of Landlock's first `version` versions are used: tests try older ones.
Status limit_files(const FileAccess& access, int version);

}  // namespace deja
