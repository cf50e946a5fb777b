// What a session or a replay hands to a CheckpointWriter.
#pragma once

#include "checkpoint/checkpoint_format.h"
#include "eventlog/manifest.h"
#include "replay/live_session.h"

namespace deja {

// The machine is at rest.
CheckpointPoint checkpoint_point(Machine& machine, const SessionCounts& counts);

// By what a file of checkpoints knows its recording.
u64 checkpoint_owner(const RecordingManifest& manifest);

}  // namespace deja
