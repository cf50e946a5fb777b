#include "replay/checkpointing.h"

namespace deja {

CheckpointPoint checkpoint_point(Machine& machine, const SessionCounts& counts) {
  CheckpointPoint point;
  point.machine = {machine.save_cpus(), machine.save_devices()};
  point.step = machine.clock().steps;
  point.vtime = machine.now();
  point.events = counts.events;
  point.warps = counts.warps;
  point.deliveries = counts.deliveries;
  return point;
}

u64 checkpoint_owner(const RecordingManifest& manifest) { return static_cast<u64>(manifest.created_unix_ns); }

}  // namespace deja
