// Whole small files of a recording: read with a bound, replaced atomically.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

inline constexpr u64 kMaxSmallFile = 16_MiB;

// At most kMaxSmallFile of a file that is in the recording's directory (eventlog/recording_file.h).
Result<std::string> read_small_file(const std::filesystem::path& path);

// Writes beside `path`, syncs, and renames over it: at any moment the old or the new content is there.
Status replace_file(const std::filesystem::path& path, std::string_view text);

}  // namespace deja
