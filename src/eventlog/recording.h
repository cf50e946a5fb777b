// A recording as a whole: directory, manifest and event log, written by one recorder and read by replays.
//
//   auto dir = create_recording_dir(name, clock.wall_unix_ns());
//   manifest.inputs.push_back(add_input(dir, "kernel", path, InputStorage::copy));
//   auto recording = RecordingWriter::create(dir, manifest, clock);     // from here on others see it
//   recording->append({step, input::SerialBytes{0, "ls\r"}}); recording->tick(); …
//   recording->finish(end_info);
//
//   auto recording = Recording::open(resolve_recording(rec));
//   while (auto event = recording.log.next()) …
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "eventlog/log_reader.h"
#include "eventlog/log_writer.h"
#include "eventlog/manifest.h"
#include "eventlog/recording_dir.h"
#include "eventlog/recording_files.h"

namespace deja {

class RecordingWriter {
 public:
  // Fills in created_unix_ns and recorder_pid, writes the manifest and an empty log, and points `latest`
  // here.
  static Result<std::unique_ptr<RecordingWriter>> create(std::filesystem::path dir,
                                                         RecordingManifest manifest, HostClock& clock,
                                                         RecordingFiles& files = host_files());
  // A writer that is destroyed without finish() leaves what a killed recorder leaves.
  ~RecordingWriter();

  // See LogWriter.
  Status append(const LogEvent& event);
  Status tick() { return log_->tick(); }
  Status flush() { return log_->flush(); }

  // Writes the manifest anew with the hash of an input that was not known when the recording began.
  Status set_input_hash(std::string_view role, const std::string& sha256);

  // For a recording with a window: lets it begin at `base`, later than before, with `log`, which holds what
  // it is to hold from there on and goes on as the log. The file of the checkpoints that goes with it is
  // complete. On an error nothing has changed. The files that were in use until then are removed.
  Status move_to(BaseInfo base, std::unique_ptr<LogWriter> log, u64 digests);
  // The manifest that move_to() will write, as far as the names of files go.
  RecordingManifest next_manifest() const;

  // Appends the End event, closes the log and replaces the manifest by the final one. On an error (disk full)
  // may be called again.
  Status finish(EndInfo info);

  const std::filesystem::path& dir() const { return dir_; }
  RecordingFiles& files() const { return files_; }  // through which all of the recording is written
  const RecordingManifest& manifest() const { return manifest_; }
  u64 log_bytes() const { return log_->bytes_written(); }
  u64 digests() const { return digests_; }  // in the log
  // Where the monitor of this recording listens.
  std::string monitor_socket() const { return (dir_ / kMonitorSocket).string(); }

 private:
  explicit RecordingWriter(RecordingFiles& files) : files_(files) {}
  Status write_manifest();

  RecordingFiles& files_;
  std::filesystem::path dir_;
  RecordingManifest manifest_;
  std::unique_ptr<LogWriter> log_;
  u64 digests_ = 0;
  bool end_appended_ = false;
};

struct Recording {
  std::filesystem::path dir;
  RecordingManifest manifest;
  RecordingState state;
  LogReader log;  // at its first event

  // Checks manifest and log header. `dir` as from resolve_recording.
  static Result<Recording> open(const std::filesystem::path& dir);
  // The one that `manifest` was read from, once more. An error: its beginning has moved on since.
  static Result<Recording> reopen(const std::filesystem::path& dir, const RecordingManifest& manifest);

  // When log.next() has returned nullopt: does the log end where the manifest says? An error when the end is
  // missing although the recording was ended in order.
  Status check_end() const;
};

// Reads and checks everything but the replay itself: each frame, the end, each input file.
Status check_recording(const std::filesystem::path& dir);

}  // namespace deja
