#include "eventlog/recording.h"

#include <sys/file.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "base/log.h"
#include "eventlog/recording_file.h"
#include "eventlog/small_file.h"

namespace deja {

namespace fs = std::filesystem;

Result<std::unique_ptr<RecordingWriter>> RecordingWriter::create(fs::path dir, RecordingManifest manifest,
                                                                 HostClock& clock, RecordingFiles& files) {
  std::unique_ptr<RecordingWriter> w(new RecordingWriter(files));
  w->dir_ = std::move(dir);
  w->manifest_ = std::move(manifest);
  w->manifest_.format_version = kRecordingFormatVersion;
  w->manifest_.created_unix_ns = clock.wall_unix_ns();
  w->manifest_.recorder_pid = static_cast<u32>(::getpid());
  w->manifest_.end.reset();
  // The log, with its lock, comes first: who sees a manifest can tell whether its recorder lives.
  DEJA_ASSIGN(auto file, files.create(w->dir_ / events_file(w->manifest_)));
  DEJA_ASSIGN(w->log_, LogWriter::create(std::move(file), clock));
  DEJA_TRY(w->write_manifest());
  return w;
}

RecordingWriter::~RecordingWriter() {
  if (!log_ || manifest_.end) return;
  if (Status s = log_->flush(); !s) log_warn("recording", "{}", s.error().message);
}

Status RecordingWriter::append(const LogEvent& event) {
  digests_ += std::holds_alternative<event::Digest>(event.body);
  return log_->append(event);
}

RecordingManifest RecordingWriter::next_manifest() const {
  RecordingManifest next = manifest_;
  ++next.window->number;
  return next;
}

Status RecordingWriter::move_to(BaseInfo base, std::unique_ptr<LogWriter> log, u64 digests) {
  DEJA_TRY(log->sync());
  RecordingManifest old = std::exchange(manifest_, next_manifest());
  manifest_.base = std::move(base);
  if (Status s = write_manifest(); !s) {
    manifest_ = std::move(old);
    return s;
  }
  log_ = std::move(log);
  digests_ = digests;
  files_.remove(dir_ / events_file(old));
  files_.remove(dir_ / checkpoints_file(old));
  return {};
}

Status RecordingWriter::write_manifest() { return files_.replace(dir_ / kManifestFile, to_json(manifest_)); }

Status RecordingWriter::set_input_hash(std::string_view role, const std::string& sha256) {
  for (RecordedFile& f : manifest_.inputs)
    if (f.role == role) f.sha256 = sha256;
  return write_manifest();
}

Status RecordingWriter::finish(EndInfo info) {
  if (!end_appended_) {
    end_appended_ = true;  // the writer keeps the event also when the disk refuses it
    DEJA_TRY(log_->append({info.final_step, info.end}));
  }
  DEJA_TRY(log_->close());
  info.digests = digests_;
  info.log_bytes = log_->bytes_written();
  info.log_frames = log_->frames_written();
  info.log_checksum = log_->checksum();
  manifest_.end = std::move(info);
  if (Status s = write_manifest(); !s) {
    manifest_.end.reset();
    return s;
  }
  return {};
}

namespace {

constexpr int kOpenAttempts = 5;

Result<Recording> open_patiently(const fs::path& dir, int attempts) {
  const fs::path path = dir / kManifestFile;
  // In this order: a recording that ends between the two looks is seen as one that is being written.
  const bool writing = being_written(dir);
  auto text = read_small_file(path);
  if (!text && recording_file_exists(dir, kManifestFile)) return text.error();
  if (!text) {
    return make_error("{}; {}", text.error().message,
                      writing ? "the recording is just being started, try again"
                              : "without it the recording cannot be replayed (its recorder may have been "
                                "killed while starting)");
  }
  DEJA_ASSIGN(auto manifest, parse_manifest(text.value(), path.string()));
  const fs::path log_path = dir / events_file(manifest);
  auto log = LogReader::open(log_path.string());
  // The log of a window that moves on goes away as soon as the manifest names another.
  if (!log && writing && manifest.window && !recording_file_exists(dir, events_file(manifest)) &&
      attempts > 1)
    return open_patiently(dir, attempts - 1);
  if (!log) return log.error();
  const RecordingState state = manifest.end ? RecordingState::ended
                               : writing    ? RecordingState::writing
                                            : RecordingState::killed;
  return Recording{dir, std::move(manifest), state, std::move(log).value()};
}

}  // namespace

Result<Recording> Recording::open(const fs::path& dir) { return open_patiently(dir, kOpenAttempts); }

Result<Recording> Recording::reopen(const fs::path& dir, const RecordingManifest& manifest) {
  DEJA_ASSIGN(Recording recording, open(dir));
  if (recording.manifest.base == manifest.base) return recording;
  return make_error("{}: the window has moved on meanwhile; try again, or end the recording first",
                    dir.string());
}

Status Recording::check_end() const {
  if (!manifest.end) return {};
  const EndInfo& e = *manifest.end;
  const std::string path = (dir / events_file(manifest)).string();
  if (log.tail() != LogReader::Tail::ended || log.offset() != e.log_bytes) {
    return make_error(
        "{}: ends after byte {} ({} whole frames), but the recording was ended in order with {} bytes; "
        "the file was cut or replaced. Restore it from a copy; the events up to step {} are intact",
        path, log.offset(), log.frames(), e.log_bytes, log.last_step());
  }
  if (log.frames() != e.log_frames || log.checksum() != e.log_checksum || log.last_step() != e.final_step) {
    return make_error("{}: is not the log that manifest.json belongs to; restore both from one copy", path);
  }
  return {};
}

Status check_recording(const fs::path& dir) {
  DEJA_ASSIGN(Recording recording, Recording::open(dir));
  while (true) {
    DEJA_ASSIGN(const auto event, recording.log.next());
    if (!event) break;
  }
  DEJA_TRY(recording.check_end());
  for (const RecordedFile& input : recording.manifest.inputs) {
    const auto path = find_input(dir, input);
    if (!path) return path.error();
  }
  return {};
}

}  // namespace deja
