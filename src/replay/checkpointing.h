// What a session or a replay hands to a CheckpointWriter, and what it takes from a CheckpointReader.
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/checkpoint_reader.h"
#include "eventlog/manifest.h"
#include "replay/live_session.h"

namespace deja {

// The machine is at rest. `serial`: what it has sent on COM1 since the checkpoint before, of which no more is
// kept than kMostSerialText.
CheckpointPoint checkpoint_point(Machine& machine, const SessionCounts& counts, std::string serial);

// By what a file of checkpoints knows its recording.
u64 checkpoint_owner(const RecordingManifest& manifest);

// Those of a recording, which may have none. An error: it begins with a base, and that cannot be read.
Result<CheckpointReader> open_checkpoints(const std::filesystem::path& dir, const RecordingManifest& manifest,
                                          Machine& machine);

}  // namespace deja
