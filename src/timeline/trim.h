// Cuts a window out of a recording: `deja trim`.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "inputs/host_clock.h"
#include "timeline/navigator.h"

namespace deja {

struct TrimRequest {
  Step from = 0, to = 0;
  std::string name;                                   // as for create_recording_dir
  Step interval = 0;                                  // between two checkpoints
  std::function<void(Step done, Step all)> progress;  // now and then; may be empty
};

struct TrimReport {
  std::filesystem::path dir;
  u64 events = 0;
  u64 checkpoints = 0, checkpoint_bytes = 0;
};

// Makes a recording that begins with a checkpoint at `from`, has the events up to `to`, and counts its steps
// on. The window is replayed and checked. `nav`: of the recording to cut from; it is anywhere afterwards. On
// an error nothing is left.
Result<TrimReport> trim_recording(Navigator& nav, const TrimRequest& request, HostClock& clock);

}  // namespace deja
