// Which files a process may still open once it is confined: Landlock, the kernel's sandbox for processes
// without privileges (Linux Documentation/userspace-api/landlock.rst). What is open already stays usable.
#pragma once

#include <filesystem>
#include <vector>

#include "base/result.h"

namespace deja {

struct FileAccess {
  // Files, or directories with all that is below them. What does not exist is left out.
  std::vector<std::filesystem::path> read;
  // Directories are for making, replacing and removing what is in them, too.
  std::vector<std::filesystem::path> write;
};

// Version of the kernel's Landlock; 0: it has none.
int landlock_version();

// From here on the calling thread, and those that it starts, can open nothing else. Needs no_new_privs.
Status limit_files(const FileAccess& access);

}  // namespace deja
