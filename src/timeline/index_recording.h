// Adds checkpoints to a recording that has none, or too few: `deja index`.
#pragma once

#include <filesystem>
#include <functional>

#include "base/result.h"
#include "execute/engine.h"

namespace deja {

struct IndexRequest {
  std::filesystem::path dir;
  EngineOptions engine;
  Step interval = 0;                                  // between two checkpoints
  std::function<void(Step done, Step all)> progress;  // now and then; may be empty
};

struct IndexReport {
  Step steps = 0;
  u64 checkpoints = 0, bytes = 0;
};

// Replays the recording, checking it, and replaces its checkpoints when all are written: at any moment the
// old or the new ones are there. An error: the old ones stay.
Result<IndexReport> index_recording(const IndexRequest& request);

}  // namespace deja
