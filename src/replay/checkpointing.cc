#include "replay/checkpointing.h"

#include "checkpoint/restore.h"
#include "eventlog/recording_dir.h"

namespace deja {

CheckpointPoint checkpoint_point(Machine& machine, const SessionCounts& counts, std::string serial) {
  CheckpointPoint point;
  point.machine = {machine.save_cpus(), machine.save_devices(), machine.save_disks()};
  point.step = machine.clock().steps;
  point.vtime = machine.now();
  point.events = counts.events;
  point.warps = counts.warps;
  point.deliveries = counts.deliveries;
  point.serial_left_out = serial.size() > kMostSerialText;
  if (!point.serial_left_out) point.serial = std::move(serial);
  return point;
}

u64 checkpoint_owner(const RecordingManifest& manifest) { return static_cast<u64>(manifest.created_unix_ns); }

Result<CheckpointReader> open_checkpoints(const std::filesystem::path& dir, const RecordingManifest& manifest,
                                          Machine& machine) {
  CheckpointReader reader =
      CheckpointReader::open(dir / checkpoints_file(manifest), checkpoint_owner(manifest), shape_of(machine));
  if (!manifest.base) return reader;
  if (reader.size() && reader.point(0).step == manifest.base->step && reader.is_unbroken(0)) return reader;
  if (manifest.window && being_written(dir))
    return make_error("{}: the window has moved on while it was opened; try again", dir.string());
  return make_error(
      "{}: begins at step {}, and the checkpoint that it begins with is missing or damaged{}; without it the "
      "recording cannot be replayed: restore {} from a copy",
      dir.string(), manifest.base->step, reader.problem().empty() ? "" : " (" + reader.problem() + ")",
      checkpoints_file(manifest));
}

}  // namespace deja
