#include "replay/record_session.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "base/log.h"
#include "checkpoint/restore.h"
#include "disk/image_hash.h"
#include "inputs/host_inputs.h"
#include "replay/build_info.h"
#include "replay/checkpointing.h"
#include "replay/flight_recorder.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

// Checkpoints in the stretch that --keep keeps, at least.
constexpr u64 kCheckpointsKept = 8;

class RecordingSink final : public EventSink {
 public:
  explicit RecordingSink(RecordingWriter& writer) : writer_(writer) {}
  Status append(const LogEvent& event) override { return writer_.append(event); }
  Status tick() override {
    DEJA_TRY(writer_.tick());
    if (flight_) DEJA_TRY(flight_->tick(host_ns_()));
    for (Hash& h : hashes_)
      if (h.running && h.running->done()) DEJA_TRY(take(h));
    return {};
  }
  Status flush() override {
    DEJA_TRY(writer_.flush());
    return flight_ ? flight_->tick(host_ns_()) : Status();
  }
  std::string describe() const override {
    return fmt::format("{}, log of {} bytes", writer_.dir().string(), writer_.log_bytes());
  }

  // `host_ns`: since the session began.
  void bound(FlightRecorder& flight, std::function<u64()> host_ns) {
    flight_ = &flight;
    host_ns_ = std::move(host_ns);
  }

  // Starts to hash the images whose content is not known yet.
  void hash_images() {
    for (const RecordedFile& f : writer_.manifest().inputs)
      if (f.sha256.empty()) hashes_.push_back({f.role, std::make_unique<BackgroundHash>(f.original_path)});
  }
  // Waits for them; an error says which image was changed meanwhile.
  Status finish_hashes() {
    for (Hash& h : hashes_)
      if (h.running) DEJA_TRY(take(h));
    return image_status_;
  }

 private:
  struct Hash {
    std::string role;
    std::unique_ptr<BackgroundHash> running;
  };
  Status take(Hash& h) {
    Result<std::string> sha256 = h.running->take();
    h.running.reset();
    if (sha256) return writer_.set_input_hash(h.role, *sha256);
    image_status_ = sha256.error();
    return {};
  }

  RecordingWriter& writer_;
  FlightRecorder* flight_ = nullptr;
  std::function<u64()> host_ns_;
  std::vector<Hash> hashes_;
  Status image_status_;
};

// Has nobody touched the images since they were opened?
Status check_unchanged(const std::vector<DiskImage>& drives) {
  for (const DiskImage& image : drives) {
    auto file = HostFile::open(image.path);
    if (!file)  // confined, the program may open no other file in its place
      return make_error("disk image '{}': was removed or replaced while it was in use", image.path);
    DEJA_ASSIGN(const std::string identity, file->identity());
    if (identity != image.identity)
      return make_error("disk image '{}': was changed or replaced while it was in use", image.path);
  }
  return {};
}

Result<std::unique_ptr<RecordingWriter>> start_recording(const std::filesystem::path& dir,
                                                         const SessionRequest& request,
                                                         const GuestFiles& files, HostClock& clock) {
  RecordingManifest manifest;
  manifest.machine_version = kMachineBehaviour;
  manifest.build = build_version();
  manifest.host = this_host();
  manifest.machine = request.setup.spec;
  manifest.rtc_base_unix_seconds = request.setup.rtc_unix_seconds;
  manifest.rng_seed = request.setup.rng_seed;
  for (const SerialConfig& s : request.serial) manifest.machine.serial.push_back(to_string(s));
  if (const u64 keep_ns = request.recording->keep_ns) manifest.window = WindowInfo{keep_ns, 0};
  const InputStorage storage = request.recording->storage;
  const auto add = [&](const char* role, const LoadedFile& file) -> Status {
    DEJA_ASSIGN(RecordedFile input, add_input(dir, role, file.path, file.bytes, storage));
    manifest.inputs.push_back(std::move(input));
    return {};
  };
  if (files.firmware)
    DEJA_TRY(add("firmware", *files.firmware));
  else
    DEJA_TRY(add("kernel", files.kernel));
  if (files.initrd) DEJA_TRY(add("initrd", *files.initrd));
  for (std::size_t i = 0; i < files.drives.size(); ++i)
    manifest.inputs.push_back(add_drive(fmt::format("drive{}", i), files.drives[i]));
  return RecordingWriter::create(dir, std::move(manifest), clock);
}

// The parent's manifest with its inputs, which the two recordings share where the file system can, and its
// log.
Result<std::unique_ptr<RecordingWriter>> start_branch(const std::filesystem::path& dir,
                                                      const BranchPoint& branch, HostClock& clock) {
  RecordingManifest manifest = branch.parent;
  manifest.build = build_version();
  manifest.host = this_host();
  manifest.window.reset();
  manifest.parent = {branch.parent_dir.stem().string(), branch.parent.created_unix_ns,
                     branch.machine->clock().steps};
  DEJA_TRY(share_inputs(branch.parent_dir, dir, manifest.inputs));
  DEJA_ASSIGN(auto writer, RecordingWriter::create(dir, std::move(manifest), clock));
  for (const LogEvent& event : branch.log) DEJA_TRY(writer->append(event));
  DEJA_TRY(writer->flush());
  return writer;
}

// A directory in which nothing was recorded is of no use to anybody; removed unless disarmed.
class UnlessStarted {
 public:
  explicit UnlessStarted(std::filesystem::path dir) : dir_(std::move(dir)) {}
  ~UnlessStarted() {
    std::error_code ec;
    if (!dir_.empty()) std::filesystem::remove_all(dir_, ec);
  }
  void started() { dir_.clear(); }

 private:
  std::filesystem::path dir_;
};

}  // namespace

Result<PreparedSession> PreparedSession::make(const std::string& name, std::vector<SerialConfig> serial,
                                              HostClock& clock) {
  DEJA_ASSIGN(FutureRecording recording, FutureRecording::make(name, clock.wall_unix_ns()));
  PreparedSession prepared(std::move(recording));
  HostInputsConfig config;
  config.serial = std::move(serial);
  config.monitor_socket = (prepared.recording_.dir() / kMonitorSocket).string();
  DEJA_ASSIGN(prepared.inputs_, HostInputs::create(std::move(config), clock));
  prepared.inputs_->suspend();
  return prepared;
}

Result<SessionReport> run_session(SessionRequest request, HostClock& clock) {
  // First everything that a wrong option or file makes fail, so that nothing is left behind then.
  GuestFiles files;
  std::unique_ptr<Machine> powered_on;
  if (!request.branch) {
    DEJA_ASSIGN(files, read_guest_files(request.boot, request.drives));
    for (std::size_t i = 0; i < files.drives.size(); ++i)
      request.setup.spec.drives[i].format = files.drives[i].format;
    if (!files.no_kernel.empty()) log_info("machine", "{}: starting firmware", files.no_kernel);
    if (!files.root_argument.empty()) {
      // What was taken from a disk is not a file of its own: a recording keeps a copy.
      if (request.recording) request.recording->storage = InputStorage::copy;
      const std::string standard = files.root_argument + " console=ttyS0";
      std::string& cmdline = request.setup.spec.cmdline;
      cmdline = cmdline.empty() ? standard : standard + " " + cmdline;
    }
    DEJA_ASSIGN(const MachineConfig config, machine_config(request.setup, files));
    DEJA_ASSIGN(powered_on, Machine::create(config, request.engine));
  }
  Machine* const machine = request.branch ? request.branch->machine : powered_on.get();

  std::filesystem::path dir;
  if (request.recording) {
    DEJA_ASSIGN(dir, create_recording_dir(request.recording->name, clock.wall_unix_ns()));
    sandbox::allow_write(dir);
  }
  UnlessStarted cleanup(dir);
  std::unique_ptr<RecordingWriter> writer;
  std::optional<RecordingSink> sink;
  std::unique_ptr<CheckpointWriter> checkpoints;
  HostInputsConfig inputs_config;
  inputs_config.serial = request.serial;
  inputs_config.monitor_socket = request.monitor_socket;
  inputs_config.nic = request.nic;
  if (request.recording) {
    if (request.branch) {
      DEJA_ASSIGN(writer, start_branch(dir, *request.branch, clock));
    } else {
      DEJA_ASSIGN(writer, start_recording(dir, request, files, clock));
    }
    sink.emplace(*writer);
    if (!request.monitor_socket) inputs_config.monitor_socket = writer->monitor_socket();
  }
  std::unique_ptr<HostInputs> inputs;
  if (request.prepared) {
    inputs = request.prepared->take_inputs();
    inputs->resume();
  } else {
    DEJA_ASSIGN(inputs, HostInputs::create(std::move(inputs_config), clock));
  }
  if (sink) sink->hash_images();
  for (const DiskImage& image : files.drives) sandbox::allow_read(image.path);  // is it the same at the end?
  DEJA_TRY(sandbox::enter());
  cleanup.started();
  if (request.recording && request.recording->checkpoint_interval &&
      (!request.branch || request.branch->checkpoints)) {
    DEJA_ASSIGN(std::unique_ptr<AppendFile> file,
                create_append_file((dir / checkpoints_file(writer->manifest())).string()));
    const u64 owner = checkpoint_owner(writer->manifest());
    DEJA_ASSIGN(checkpoints, request.branch
                                 ? CheckpointWriter::resume(std::move(file), owner, machine->ram(),
                                                            *request.branch->checkpoints)
                                 : CheckpointWriter::create(std::move(file), owner, machine->ram()));
  }

  LiveSession* live = nullptr;
  std::optional<FlightRecorder> flight;
  if (request.recording && request.recording->keep_ns) {
    // What the machine was loaded with has to be in the file when its beginning moves on.
    DEJA_TRY(checkpoints->take_base(checkpoint_point(*machine, {}, {})));
    flight.emplace(*writer, *checkpoints, shape_of(*machine), clock,
                   [&](std::string_view line) { inputs->notify(line); });
    sink->bound(*flight, [&] { return live->host_ns(); });
  }

  const bool stdio = std::any_of(request.serial.begin(), request.serial.end(),
                                 [](const SerialConfig& s) { return s.kind == SerialConfig::Kind::stdio; });
  LiveOptions options;
  options.until = request.until;
  options.interactive = stdio && ::isatty(STDIN_FILENO);
  if (request.branch) {
    options.before = request.branch->counts;
    options.before.deliveries -= machine->engine().counters().faults;
    for (const LogEvent& e : request.branch->log)
      if (const auto* progress = std::get_if<event::Progress>(&e.body))
        options.before_host_ns = progress->host_ns;
    options.sent_before = request.branch->serial;
  }
  if (checkpoints) {
    options.checkpoint_interval = request.recording->checkpoint_interval;
    options.checkpoint_interval_ns = request.recording->keep_ns / kCheckpointsKept;
    options.checkpoint = [&](const SessionCounts& counts, const std::string& serial) {
      if (!checkpoints->ready()) return false;
      checkpoints->take(checkpoint_point(*machine, counts, serial));
      if (flight)
        flight->add({{machine->clock().steps, machine->now(), live->instructions(), {}, 0},
                     counts.events,
                     live->host_ns(),
                     clock.wall_unix_ns()});
      return true;
    };
  }
  const auto notify = [&](std::string_view line) { inputs->notify(line); };
  SessionReport report;
  // Closes the recording at the machine's present step.
  const auto close_recording = [&](const event::End& end) {
    const Status hashed = sink->finish_hashes();
    Status images = check_unchanged(files.drives);
    if (images) images = hashed;
    if (!images) report.image_error = images.error();
    EndInfo info;
    info.end = end;
    info.final_step = machine->clock().steps;
    info.instructions = live->instructions();
    info.virtual_ns = machine->clock().now();
    info.host_ns = live->host_ns();
    if (checkpoints) {
      if (Status status = checkpoints->finish(); !status) report.checkpoint_error = status.error();
      report.checkpoints = checkpoints->taken();
      report.checkpoint_bytes = checkpoints->bytes();
    }
    if (flight) flight->finish();
    if (Status status = writer->finish(info); !status) report.recording_error = status.error();
    report.log_bytes = writer->log_bytes();
    report.digests = writer->digests();
    if (flight && flight->began_ns()) report.kept_ns = info.host_ns - flight->began_ns();
    flight.reset();
    writer.reset();
  };
  options.recording_stopped = close_recording;
  LiveSession session(*machine, *inputs, *inputs, clock, sink ? &*sink : nullptr, notify, options);
  live = &session;
  inputs->set_status_provider([&] { return session.status(); });

  report.end = session.run();
  report.exit_status = machine->exit_status();
  report.steps = machine->clock().steps;
  report.instructions = session.instructions();
  report.virtual_ns = machine->clock().now();
  report.host_ns = session.host_ns();
  report.counters = machine->engine().counters();
  report.recording = dir;
  if (writer) close_recording(report.end);
  return report;
}

}  // namespace deja
