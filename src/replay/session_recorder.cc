#include "replay/session_recorder.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/printable.h"
#include "checkpoint/restore.h"
#include "replay/build_info.h"
#include "replay/checkpointing.h"

namespace deja {

namespace fs = std::filesystem;

SessionRecorder::SessionRecorder(Subject subject, RecordingRequest request, HostClock& clock,
                                 RecordingFiles& files)
    : subject_(std::move(subject)), request_(std::move(request)), clock_(clock), files_(files) {
  for (std::size_t i = 0; i < subject_.files.drives.size(); ++i) {
    // What the cache of hashes says of it is asked for now: the sandbox leaves no way to it.
    const RecordedFile& drive =
        drives_.emplace_back(add_drive(fmt::format("drive{}", i), subject_.files.drives[i]));
    if (drive.sha256.empty())
      hashes_.push_back({drive.role, std::make_unique<BackgroundHash>(drive.original_path), false, {}});
  }
}

SessionRecorder::~SessionRecorder() { close(); }

// In this order: the flight recorder uses the other two.
void SessionRecorder::close() {
  flight_.reset();
  checkpoints_.reset();
  writer_.reset();
}

// --- What a recording begins with -------------------------------------------------------------------------

Result<RecordingManifest> SessionRecorder::manifest_for(const fs::path& dir) const {
  RecordingManifest manifest;
  if (const BranchPoint* const branch = subject_.branch) {
    // The parent's inputs, which the two recordings share where the file system can.
    manifest = branch->parent;
    manifest.window.reset();
    manifest.parent.reset();
    DEJA_TRY(share_inputs(branch->parent_dir, dir, manifest.inputs));
  } else {
    const GuestFiles& files = subject_.files;
    const auto add = [&](const char* role, const LoadedFile& file) -> Status {
      DEJA_ASSIGN(RecordedFile input, add_input(dir, role, file.path, file.bytes, request_.storage));
      manifest.inputs.push_back(std::move(input));
      return {};
    };
    if (files.firmware)
      DEJA_TRY(add("firmware", *files.firmware));
    else
      DEJA_TRY(add("kernel", files.kernel));
    if (files.initrd) DEJA_TRY(add("initrd", *files.initrd));
    for (RecordedFile drive : drives_) {
      for (const Hash& h : hashes_)
        if (h.role == drive.role && h.result && h.result->ok()) drive.sha256 = h.result->value();
      manifest.inputs.push_back(std::move(drive));
    }
    to_manifest(subject_.setup, &manifest);
  }
  manifest.machine.serial.clear();
  for (const SerialConfig& s : subject_.serial) manifest.machine.serial.push_back(to_string(s));
  manifest.build = build_version();
  manifest.host = this_host();
  if (request_.keep_ns) manifest.window = WindowInfo{request_.keep_ns, 0};
  return manifest;
}

Status SessionRecorder::begin(const fs::path& dir) {
  DEJA_ASSIGN(RecordingManifest manifest, manifest_for(dir));
  const BranchPoint* const branch = subject_.branch;
  if (branch)
    manifest.parent = {branch->parent_dir.stem().string(), branch->parent.created_unix_ns,
                       subject_.machine.clock().steps};
  DEJA_ASSIGN(writer_, RecordingWriter::create(dir, std::move(manifest), clock_, files_));
  point_latest_to(dir);
  if (branch) {
    for (const LogEvent& event : branch->log) DEJA_TRY(writer_->append(event));
    DEJA_TRY(writer_->flush());
  }
  begin_hashes();
  return {};
}

Status SessionRecorder::start_checkpoints() {
  const BranchPoint* const branch = subject_.branch;
  if (!request_.checkpoint_interval || (branch && !branch->checkpoints)) return {};
  Machine& machine = subject_.machine;
  const u64 owner = checkpoint_owner(writer_->manifest());
  DEJA_ASSIGN(std::unique_ptr<AppendFile> file,
              files_.create(writer_->dir() / checkpoints_file(writer_->manifest())));
  DEJA_ASSIGN(checkpoints_,
              branch ? CheckpointWriter::resume(std::move(file), owner, machine.ram(), *branch->checkpoints)
                     : CheckpointWriter::create(std::move(file), owner, machine.ram()));
  if (!request_.keep_ns) return {};
  // What the machine was loaded with has to be in the file when its beginning moves on.
  DEJA_TRY(checkpoints_->take_base(checkpoint_point(machine, {}, {})));
  start_flight(0);
  return {};
}

Status SessionRecorder::begin_here(const RecordingStart& start) {
  DEJA_ASSIGN(const fs::path dir, create_later_recording_dir(start.name, clock_.wall_unix_ns()));
  if (Status status = begin_base(dir, start); !status) {
    close();
    remove_later_recording_dir(dir);
    return status;
  }
  begin_hashes();
  return {};
}

Status SessionRecorder::begin_base(const fs::path& dir, const RecordingStart& start) {
  Machine& machine = subject_.machine;
  DEJA_ASSIGN(RecordingManifest manifest, manifest_for(dir));
  manifest.base = BaseInfo{machine.clock().steps, machine.now(), start.instructions, {}, 0};
  DEJA_ASSIGN(writer_, RecordingWriter::create(dir, std::move(manifest), clock_, files_));
  DEJA_ASSIGN(std::unique_ptr<AppendFile> file, files_.create(dir / checkpoints_file(writer_->manifest())));
  DEJA_ASSIGN(checkpoints_, CheckpointWriter::create(std::move(file), checkpoint_owner(writer_->manifest()),
                                                     machine.ram()));
  DEJA_TRY(checkpoints_->take_base(checkpoint_point(machine, start.counts, {})));
  checkpoints_since_ns_ = start.host_ns;
  point_latest_to(dir);  // before that there was nothing to replay
  if (request_.keep_ns) start_flight(start.host_ns);
  return {};
}

void SessionRecorder::start_flight(u64 began_ns) {
  flight_.emplace(*writer_, *checkpoints_, shape_of(subject_.machine), clock_, subject_.notify, began_ns);
}

// --- While it is made ------------------------------------------------------------------------------------

bool SessionRecorder::take_checkpoint(const SessionCounts& counts, const std::string& serial) {
  if (!checkpoints_) return true;
  if (!checkpoints_->ready()) return false;
  if (!flight_ && !may_take_checkpoint(checkpoints_->bytes(), subject_.host_ns() - checkpoints_since_ns_)) {
    if (!std::exchange(told_of_checkpoints_, true))
      subject_.notify(
          "the guest changes so much of its memory and disks that fewer checkpoints are taken from here on: "
          "the recording is complete, but seeks in it take longer");
    return false;
  }
  Machine& machine = subject_.machine;
  checkpoints_->take(checkpoint_point(machine, counts, serial));
  if (flight_)
    flight_->add({{machine.clock().steps, machine.now(), subject_.instructions(), {}, 0},
                  counts.events,
                  subject_.host_ns(),
                  clock_.wall_unix_ns()});
  return true;
}

Status SessionRecorder::tick() {
  DEJA_TRY(writer_->tick());
  if (flight_) DEJA_TRY(flight_->tick(subject_.host_ns()));
  for (Hash& h : hashes_)
    if (h.begun && !h.result && h.hash->done()) DEJA_TRY(take_hash(h));
  return {};
}

Status SessionRecorder::flush() {
  DEJA_TRY(writer_->flush());
  return flight_ ? flight_->tick(subject_.host_ns()) : Status();
}

std::string SessionRecorder::describe() const {
  return show("{}, log of {} bytes", writer_->dir().string(), writer_->log_bytes());
}

// --- The content of disk images --------------------------------------------------------------------------

void SessionRecorder::begin_hashes() {
  for (Hash& h : hashes_)
    if (!std::exchange(h.begun, true)) h.hash->begin();
}

Status SessionRecorder::take_hash(Hash& h) {
  h.result = h.hash->take();
  return h.result->ok() ? writer_->set_input_hash(h.role, h.result->value()) : Status();
}

// Waits for them; an error says which image was changed meanwhile.
Status SessionRecorder::finish_hashes() {
  for (Hash& h : hashes_)
    if (!h.result) DEJA_TRY(take_hash(h));
  for (const Hash& h : hashes_)
    if (!h.result->ok()) return h.result->error();
  return {};
}

// Has nobody touched the images since they were opened?
Status SessionRecorder::check_images() const {
  for (const DiskImage& image : subject_.files.drives) {
    auto file = HostFile::open(image.path);
    if (!file)  // confined, the program may open no other file in its place
      return make_error("disk image '{}': was removed or replaced while it was in use", image.path);
    DEJA_ASSIGN(const std::string identity, file->identity());
    if (identity != image.identity)
      return make_error("disk image '{}': was changed or replaced while it was in use", image.path);
  }
  return {};
}

// --- Its end ---------------------------------------------------------------------------------------------

const RecordingReport& SessionRecorder::end(const event::End& end) {
  RecordingReport report;
  report.dir = writer_->dir();
  const Status hashed = finish_hashes();
  Status images = check_images();
  if (images) images = hashed;
  if (!images) report.image_error = images.error();
  EndInfo info;
  info.end = end;
  info.final_step = subject_.machine.clock().steps;
  info.instructions = subject_.instructions();
  info.virtual_ns = subject_.machine.clock().now();
  info.host_ns = subject_.host_ns();
  if (checkpoints_) {
    if (Status status = checkpoints_->finish(); !status) report.checkpoint_error = status.error();
    report.checkpoints = checkpoints_->taken();
    report.checkpoint_bytes = checkpoints_->bytes();
  }
  if (flight_) flight_->finish();
  if (Status status = writer_->finish(info); !status) report.error = status.error();
  report.final_step = info.final_step;
  report.log_bytes = writer_->log_bytes();
  report.digests = writer_->digests();
  if (flight_ && flight_->moved()) report.kept_ns = info.host_ns - flight_->began_ns();
  close();
  return reports_.emplace_back(std::move(report));
}

}  // namespace deja
