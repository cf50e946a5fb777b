// A file that is made or removed when the process may no longer reach its place: one that a verb writes for
// the user, or the socket that a session listens on. A helper process does just that, with just that file.
#pragma once

#include <filesystem>

#include "base/result.h"

namespace deja {

// Must be called before the sandbox is entered; afterwards the two functions below work for `path`. Without
// the sandbox it does nothing, and they work for every path.
Status prepare_outside_file(const std::filesystem::path& path);

// Opens a new file for reading and writing, as open(2) with O_EXCL does; without `exclusive`, a file that is
// there is emptied. -1 and errno when that fails.
int create_outside_file(const std::filesystem::path& path, bool exclusive);
// Removes a file, or an empty directory.
void remove_outside_file(const std::filesystem::path& path);

}  // namespace deja
