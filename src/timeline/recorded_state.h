// For a replay that has come to another state than its recording: the recorder's own state, where a
// checkpoint has it.
#pragma once

#include <filesystem>
#include <string>

#include "replay/replayer.h"

namespace deja {

// As text, what `replayed` has otherwise than the recorder had where their digests were found to differ. If
// that is not on record, says so.
std::string differences_from_recorded(const std::filesystem::path& dir, const Divergence& divergence,
                                      Machine& replayed);

}  // namespace deja
