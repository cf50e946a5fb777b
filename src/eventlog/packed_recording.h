// A whole recording in one file, NAME.dejavm: a tar archive packed with zstd, so that others can look into it
// with `tar --zstd -tf`.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

inline constexpr std::string_view kPackedSuffix = ".dejavm";

// Whether the disk images that a recording refers to are packed with it.
enum class PackImages : u8 { with, without };

// Refuses one that is being written, or that needs files outside of it other than disk images. `file` must
// not exist. Returns its size.
Result<u64> pack_recording(const std::filesystem::path& recording, const std::filesystem::path& file,
                           PackImages images, const std::function<void(u64 done, u64 all)>& progress = {});

// `recording` must not exist; it appears when it is whole.
Status unpack_recording(const std::filesystem::path& file, const std::filesystem::path& recording);

// Where a packed file has been unpacked for commands that are given the file itself; unpacks it the first
// time. The copies are in unpacked/ of default_recordings_dir() and may be removed at any time.
Result<std::filesystem::path> unpacked_copy(const std::filesystem::path& file);

}  // namespace deja
