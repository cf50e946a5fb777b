// What a replay has to read, for the sandbox.
#pragma once

#include <filesystem>

#include "base/result.h"

namespace deja {

// Lets the process read the recording and the files that it refers to, as often as it replays it. Before the
// sandbox is entered; a verb that replays several recordings says so for each before the first replay. An
// error: the recording cannot be opened.
Status allow_replay(const std::filesystem::path& recording);

}  // namespace deja
