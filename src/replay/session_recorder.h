// The recordings that a live session makes, one at a time: from power-on, from a moment of another recording,
// or from wherever the machine is when somebody asks for one.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "disk/image_hash.h"
#include "eventlog/recording.h"
#include "inputs/serial_config.h"
#include "replay/flight_recorder.h"
#include "replay/guest_setup.h"
#include "replay/live_session.h"

namespace deja {

// Steps between two checkpoints: a seek replays at most so many, which takes well below a second.
inline constexpr Step kCheckpointInterval = 200'000'000;

// What checkpoints may take of the disk: so much at once, and so much for each second of host time. A guest
// that keeps writing to all of its memory would take more than any disk has; it gets fewer checkpoints. Those
// of a flight recorder go away by themselves.
inline constexpr u64 kCheckpointBurst = 4_GiB, kCheckpointBytesPerSecond = 8_MiB;
constexpr bool may_take_checkpoint(u64 bytes_so_far, u64 host_ns) {
  return bytes_so_far <=
         kCheckpointBurst + static_cast<u64>(u128{host_ns} * kCheckpointBytesPerSecond / 1'000'000'000);
}

// How a session is recorded.
struct RecordingRequest {
  std::string name;  // of the one that begins with the session, as for create_recording_dir
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

// One that was made.
struct RecordingReport {
  std::filesystem::path dir;
  Step final_step = 0;
  u64 digests = 0, log_bytes = 0;
  u64 checkpoints = 0, checkpoint_bytes = 0;
  u64 kept_ns = 0;  // host time that it holds, when its beginning has moved on; else 0
  // It could not be closed: it is as complete as its last flush.
  std::optional<Error> error;
  // A disk image was changed while it was in use: the recording cannot be replayed.
  std::optional<Error> image_error;
  // Checkpoints could not be written from some moment on; the recording does not need them.
  std::optional<Error> checkpoint_error;
};

class SessionRecorder final : public EventSink {
 public:
  // What is recorded. All that it refers to outlives the recorder.
  struct Subject {
    Machine& machine;
    const GuestSetup& setup;
    const GuestFiles& files;                  // of a branch: empty
    const std::vector<SerialConfig>& serial;  // by port
    const BranchPoint* branch = nullptr;
    // Tells the user something.
    std::function<void(std::string_view)> notify;
    std::function<u64()> host_ns;       // since the session began
    std::function<u64()> instructions;  // as LiveSession
  };

  // To be made before the sandbox is entered.
  SessionRecorder(Subject subject, RecordingRequest request, HostClock& clock,
                  RecordingFiles& files = host_files());
  ~SessionRecorder() override;

  // Begins a recording with the session, in `dir`: also before the sandbox is entered. Its checkpoints come
  // with start_checkpoints(), behind it.
  Status begin(const std::filesystem::path& dir);
  Status start_checkpoints();
  // Begins one in mid-run. An error leaves nothing behind.
  Status begin_here(const RecordingStart& start);
  // Ends the recording at the machine's present step.
  const RecordingReport& end(const event::End& end);
  bool recording() const { return writer_ != nullptr; }
  // Those that have ended.
  const std::vector<RecordingReport>& reports() const { return reports_; }

  // False: not now, ask again soon.
  bool take_checkpoint(const SessionCounts& counts, const std::string& serial);

  Status append(const LogEvent& event) override { return writer_->append(event); }
  Status tick() override;
  Status flush() override;
  std::string describe() const override;

 private:
  // An image whose content is not known yet.
  struct Hash {
    std::string role;
    std::unique_ptr<BackgroundHash> hash;
    bool begun = false;
    std::optional<Result<std::string>> result;  // the end; of an image that was changed meanwhile, an error
  };

  Result<RecordingManifest> manifest_for(const std::filesystem::path& dir) const;
  Status begin_base(const std::filesystem::path& dir, const RecordingStart& start);
  void start_flight(u64 began_ns);
  void begin_hashes();
  Status take_hash(Hash& hash);
  Status finish_hashes();
  Status check_images() const;
  void close();

  const Subject subject_;
  const RecordingRequest request_;
  HostClock& clock_;
  RecordingFiles& files_;
  std::vector<RecordedFile> drives_;
  std::vector<Hash> hashes_;
  std::vector<RecordingReport> reports_;

  // The one being made.
  std::unique_ptr<RecordingWriter> writer_;
  std::unique_ptr<CheckpointWriter> checkpoints_;
  u64 checkpoints_since_ns_ = 0;  // host time, since the session began
  std::optional<FlightRecorder> flight_;
  bool told_of_checkpoints_ = false;
};

}  // namespace deja
