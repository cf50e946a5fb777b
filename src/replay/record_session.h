// A session with the real world, recorded (`deja record`) or not (`deja run`): from what the user asked for
// to the end of the run.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "eventlog/recording.h"
#include "inputs/host_inputs.h"
#include "inputs/nic_config.h"
#include "inputs/serial_config.h"
#include "replay/guest_setup.h"
#include "replay/live_session.h"

namespace deja {

// Steps between two checkpoints: a seek replays at most so many, which takes well below a second.
inline constexpr Step kCheckpointInterval = 200'000'000;

struct RecordingRequest {
  std::string name;  // as for create_recording_dir
  InputStorage storage = InputStorage::copy;
  Step checkpoint_interval = kCheckpointInterval;  // 0: no checkpoints
  u64 keep_ns = 0;  // host time that is kept at least, and not much more; 0: all. Needs checkpoints
};

// A moment of another recording, from which a session goes on.
struct BranchPoint {
  Machine* machine = nullptr;  // stands there
  RecordingManifest parent;
  std::filesystem::path parent_dir;
  std::vector<LogEvent> log;  // the parent's, up to there
  SessionCounts counts;
  // Where its checkpoints go on, and what the guest has sent on COM1 since the last one. Absent: the parent's
  // cannot be used, so the session takes none.
  std::optional<CheckpointWriter::Continuation> checkpoints;
  std::string serial;
};

// What a session makes on the host, made before the sandbox is entered: a session that goes on from a moment
// of a recording begins after a guest has run. Nothing is left of it unless it is handed to a session.
class PreparedSession {
 public:
  // The terminal stays as it is until the session begins. `clock` outlives the object.
  static Result<PreparedSession> make(const std::string& name, std::vector<SerialConfig> serial,
                                      HostClock& clock);
  PreparedSession(PreparedSession&&) = default;
  PreparedSession& operator=(PreparedSession&&) = delete;

  std::unique_ptr<HostInputs> take_inputs() { return std::move(inputs_); }

 private:
  explicit PreparedSession(FutureRecording recording) : recording_(std::move(recording)) {}
  FutureRecording recording_;
  std::unique_ptr<HostInputs> inputs_;  // the monitor's socket is in the recording
};

struct SessionRequest {
  GuestSetup setup;
  BootFiles boot;
  // The drives' images, in order; their formats go into setup.spec once they are known.
  std::vector<DriveFile> drives;
  NicConfig nic;
  EngineOptions engine;
  std::vector<SerialConfig> serial;           // by port; the virtio console, if there is one, is the last
  std::optional<std::string> monitor_socket;  // a recording has one of its own besides
  std::vector<EndCondition> until;            // the session ends at the first of them
  std::optional<RecordingRequest> recording;  // absent: the run is not recorded
  // Present: the machine is this one, and what describes another above is not looked at. To be recorded.
  std::optional<BranchPoint> branch;
  std::optional<PreparedSession> prepared;  // for a branch
};

struct SessionReport {
  event::End end;
  u32 exit_status = 0;  // as Machine::exit_status
  Step steps = 0;
  u64 instructions = 0;
  u64 virtual_ns = 0, host_ns = 0;
  u64 digests = 0, log_bytes = 0;
  u64 checkpoints = 0, checkpoint_bytes = 0;
  EngineCounters counters;
  std::filesystem::path recording;  // empty: none
  u64 kept_ns = 0;                  // host time that it holds, when its beginning has moved on; else 0
  // The session ended, but the recording could not be closed: it is as complete as its last flush.
  std::optional<Error> recording_error;
  // A disk image was changed while it was in use: the recording cannot be replayed.
  std::optional<Error> image_error;
  // Checkpoints could not be written from some moment on; the recording does not need them.
  std::optional<Error> checkpoint_error;
};

// Runs until the guest or the user ends it. An error means that nothing ran.
Result<SessionReport> run_session(SessionRequest request, HostClock& clock);

}  // namespace deja
