// A file at a place that the process may not reach any more when it comes to making or removing it: what a
// verb writes for the user, the socket that a session listens on. A helper process does just that, with just
// that file.
#pragma once

#include <filesystem>

#include "base/result.h"

namespace deja {

// To be called before the sandbox is entered; afterwards the two below work for `path`. Without the sandbox
// does nothing, and they work for every path.
Status prepare_outside_file(const std::filesystem::path& path);

// Opens a new file for reading and writing, as open(2) with O_EXCL does, or else one made empty. -1 and errno
// when that fails.
int create_outside_file(const std::filesystem::path& path, bool exclusive);
// A file, or a directory that is empty.
void remove_outside_file(const std::filesystem::path& path);

}  // namespace deja
