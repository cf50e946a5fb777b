// Bounds a recording to its last stretch of host time (`deja record --keep`). When it holds half as much
// again as it has to keep, its beginning moves on to a checkpoint: the checkpoints from there on are copied
// to a new file by their writer's thread, then the log by this class, a piece at a time; then the manifest,
// replaced at one blow, names the new files, and the old ones are removed. At every moment the files that the
// manifest names are a whole recording.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "checkpoint/checkpoint_writer.h"
#include "eventlog/recording.h"

namespace deja {

class FlightRecorder {
 public:
  // A checkpoint at which the recording may begin.
  struct Moment {
    BaseInfo base;
    u64 events = 0;   // of the session that lie before it; the last one is a digest, of the same step
    u64 host_ns = 0;  // since the session began
    i64 unix_ns = 0;  // the date
  };

  // All outlive it. `recording` has a window; the first checkpoint is a base. `notify` tells the user when
  // the beginning cannot be moved. `began_ns`: host time at which the recording begins.
  FlightRecorder(RecordingWriter& recording, CheckpointWriter& checkpoints, MachineShape shape,
                 HostClock& clock, std::function<void(std::string_view)> notify, u64 began_ns = 0);
  // Files of a move that is not done are removed.
  ~FlightRecorder();

  // That checkpoint was taken, later than those before.
  void add(Moment moment) { moments_.push_back(std::move(moment)); }
  // Called about every millisecond. An error: the file of the checkpoints cannot be written, so that the
  // recording cannot be bounded any more.
  Status tick(u64 host_ns);
  // No checkpoints are written any more: ends a move that has only the log left to do.
  void finish();
  u64 began_ns() const { return began_ns_; }  // host time at which the recording begins
  bool moved() const { return moved_; }       // is that later than it was at first?
  bool moving() const { return target_.has_value(); }

 private:
  void begin();
  void step();
  // Copies about so many events; true: all are copied.
  Result<bool> copy_log(u64 events);
  Status start_log();
  void give_up(const Error& error);
  std::filesystem::path next_path(std::string (*file)(const RecordingManifest&)) const;

  RecordingWriter& recording_;
  CheckpointWriter& checkpoints_;
  MachineShape shape_;
  HostClock& clock_;
  std::function<void(std::string_view)> notify_;
  std::deque<Moment> moments_;
  u64 keep_ns_;
  u64 began_ns_;
  u64 events_before_ = 0;  // of the session that the log does not have; may wrap around
  u64 now_ns_ = 0, next_try_ns_ = 0;
  bool told_ = false, moved_ = false;

  // The move under way.
  std::optional<Moment> target_;
  bool checkpoints_moved_ = false;
  std::optional<LogReader> old_log_;
  std::unique_ptr<LogWriter> new_log_;
  u64 old_events_ = 0;  // taken from old_log_
  u64 digests_ = 0;     // in new_log_
};

}  // namespace deja
