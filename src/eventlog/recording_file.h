// The files of a recording, opened for reading. A recording may come from anybody, and its directory may hold
// anything: links to files of the user's, FIFOs that nobody writes to. What this opens is a file of that
// recording and nothing else. Whatever reads one opens it here (tests/check_banned.py).
#pragma once

#include <filesystem>
#include <string_view>

#include "base/result.h"

namespace deja {

// `name`: in the recording, "events.log" or "inputs/sha256-…". A regular file, to which no symbolic link
// leads from the recording's directory on, and which belongs to the directory's owner, the user or root.
// Waits for nobody. The descriptor is the caller's to close.
Result<int> open_recording_file(const std::filesystem::path& recording, std::string_view name);
// The same for one that is in the directory itself, by its whole path.
Result<int> open_recording_file(const std::filesystem::path& path);

// Is there something of this name, be it what it may?
bool recording_file_exists(const std::filesystem::path& recording, std::string_view name);

}  // namespace deja
