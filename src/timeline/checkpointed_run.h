// Replaying a stretch of a recording while checkpoints of it are written.
#pragma once

#include <functional>

#include "checkpoint/checkpoint_writer.h"
#include "replay/replayer.h"

namespace deja {

struct CheckpointedRun {
  Step to = 0;
  Step interval = 0;     // between two checkpoints, which stand at multiples of it
  i64 event_offset = 0;  // to be added to the number of events that the replayer counts
  std::function<void(Step done, Step all)> progress;  // now and then; may be empty
};

// From where the replayer stands, which is where the writer's last checkpoint was taken, or power-on. An
// error: the replay diverges.
Status run_with_checkpoints(Replayer& replayer, CheckpointWriter& writer, const CheckpointedRun& run);

}  // namespace deja
