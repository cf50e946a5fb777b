// What a replay has to read, for the sandbox: the recording's directory, and the files that the machine was
// built from. Those are opened and checked before the sandbox is entered; what a manifest says about where
// they are gives no right to open anything.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "replay/guest_setup.h"

namespace deja {

// Lets the process read the recording and the files that it refers to, as often as it replays it. Before the
// sandbox is entered; a verb that replays several recordings says so for each before the first replay. An
// error: the recording cannot be opened.
Status allow_replay(const std::filesystem::path& recording);

// The files that a recording's machine is built from, each the one that was recorded.
Result<GuestFiles> recorded_guest_files(const std::filesystem::path& recording,
                                        const RecordingManifest& manifest);
// One that is no drive, whole.
Result<LoadedFile> recorded_file(const std::filesystem::path& recording, const RecordedFile& input,
                                 u64 limit);

}  // namespace deja
