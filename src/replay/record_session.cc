#include "replay/record_session.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "base/log.h"
#include "base/printable.h"
#include "inputs/host_inputs.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

// Checkpoints in the stretch that --keep keeps, at least.
constexpr u64 kCheckpointsKept = 8;

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

// `writer` is there when the machine has a screen.
Result<std::string> screendump(Machine& machine, std::optional<PictureWriter>& writer,
                               const std::string& file) {
  DEJA_ASSIGN(const Picture picture, take_picture(machine));
  DEJA_TRY(writer->write(picture, file));
  return show("{}: the screen at step {}, {}x{}", file, machine.clock().steps, picture.width, picture.height);
}

// What a machine is powered on with. Images and firmware change the request as a user would who knew them.
Result<GuestFiles> read_files(SessionRequest* request) {
  DEJA_ASSIGN(GuestFiles files, read_guest_files(request->boot, request->drives));
  for (std::size_t i = 0; i < files.drives.size(); ++i)
    request->setup.spec.drives[i].format = files.drives[i].format;
  if (!files.no_kernel.empty()) log_info("machine", "{}: starting firmware", files.no_kernel);
  if (!files.root_argument.empty()) {
    // What was taken from a disk is not a file of its own: a recording keeps a copy.
    request->recording.storage = InputStorage::copy;
    const std::string standard = files.root_argument + " console=ttyS0";
    std::string& cmdline = request->setup.spec.cmdline;
    cmdline = cmdline.empty() ? standard : standard + " " + cmdline;
  }
  return files;
}

// Where a recording can begin later. Without such a place there is none, which is said when one is asked for.
Status prepare_later(const SessionRequest& request, const std::filesystem::path& beside) {
  if (request.branch) return {};  // prepared
  if (!request.recordings_dir.empty()) return prepare_later_recordings(request.recordings_dir);
  if (!beside.empty()) return prepare_later_recordings(beside);
  DEJA_ASSIGN(const std::filesystem::path usual, default_recordings_dir());
  return prepare_later_recordings(usual);
}

// `dir`: of the recording that begins at once; empty: none does.
Result<std::unique_ptr<HostInputs>> open_inputs(SessionRequest& request, const std::filesystem::path& dir,
                                                HostClock& clock) {
  if (request.prepared) {
    std::unique_ptr<HostInputs> inputs = request.prepared->take_inputs();
    inputs->resume();
    return inputs;
  }
  HostInputsConfig config;
  config.serial = request.serial;
  config.monitor_socket = request.monitor_socket;
  config.nic = request.nic;
  if (!dir.empty() && !config.monitor_socket) config.monitor_socket = (dir / kMonitorSocket).string();
  return HostInputs::create(std::move(config), clock);
}

// `later`: whether a recording can begin when the guest runs. All references outlive the session.
LiveOptions live_options(const SessionRequest& request, Machine& machine, SessionRecorder& recorder,
                         const Status& later) {
  const bool stdio = std::any_of(request.serial.begin(), request.serial.end(),
                                 [](const SerialConfig& s) { return s.kind == SerialConfig::Kind::stdio; });
  LiveOptions options;
  options.until = request.until;
  options.interactive = stdio && ::isatty(STDIN_FILENO);
  if (request.branch) {
    options.before = request.branch->counts;
    options.before.deliveries -= machine.engine().counters().faults;
    for (const LogEvent& e : request.branch->log)
      if (const auto* progress = std::get_if<event::Progress>(&e.body))
        options.before_host_ns = progress->host_ns;
    options.sent_before = request.branch->serial;
  }
  if (request.recording.checkpoint_interval) {
    options.checkpoint_interval = request.recording.checkpoint_interval;
    options.checkpoint_interval_ns = request.recording.keep_ns / kCheckpointsKept;
    options.checkpoint = [&recorder](const SessionCounts& counts, const std::string& serial) {
      return recorder.take_checkpoint(counts, serial);
    };
  }
  options.begin_recording = [&recorder, &later](const RecordingStart& start) -> Result<EventSink*> {
    if (!later) return later.error();
    DEJA_TRY(recorder.begin_here(start));
    return &recorder;
  };
  options.recording_stopped = [&recorder](const event::End& end) {
    const RecordingReport& ended = recorder.end(end);
    if (ended.error) return ended.error->message;
    return show("{}, log of {} bytes, {} digests", ended.dir.string(), ended.log_bytes, ended.digests);
  };
  options.guest_may_record = request.guest_may_record;
  return options;
}

MonitorActions monitor_actions(LiveSession& session, Machine& machine,
                               std::optional<PictureWriter>& pictures) {
  return {[&] { return session.status(); },
          [&](const std::string& name) -> Result<std::string> {
            DEJA_ASSIGN(const std::string where, session.start_recording(name));
            return "recording into " + where;
          },
          [&]() -> Result<std::string> {
            DEJA_ASSIGN(const std::string what, session.stop_recording("the monitor"));
            return "recorded in " + what;
          },
          [&](const std::string& file) { return screendump(machine, pictures, file); }};
}

}  // namespace

Result<PreparedSession> PreparedSession::make(const std::string& name, std::vector<SerialConfig> serial,
                                              NicConfig nic, bool screen, HostClock& clock) {
  DEJA_ASSIGN(FutureRecording recording,
              FutureRecording::make(name, clock.wall_unix_ns(), kMostLaterRecordings));
  PreparedSession prepared(std::move(recording));
  HostInputsConfig config;
  config.serial = std::move(serial);
  config.nic = std::move(nic);
  config.monitor_socket = (prepared.recording_.dir() / kMonitorSocket).string();
  DEJA_ASSIGN(prepared.inputs_, HostInputs::create(std::move(config), clock));
  prepared.inputs_->suspend();
  if (screen) {
    DEJA_ASSIGN(prepared.pictures_, PictureWriter::create());
  }
  return prepared;
}

Result<SessionReport> run_session(SessionRequest request, HostClock& clock) {
  // First everything that a wrong option or file makes fail, so that nothing is left behind then.
  GuestFiles files;
  std::unique_ptr<Machine> powered_on;
  if (!request.branch) {
    DEJA_ASSIGN(files, read_files(&request));
    DEJA_ASSIGN(const MachineConfig config, machine_config(request.setup, files));
    DEJA_ASSIGN(powered_on, Machine::create(config, request.engine));
  }
  Machine* const machine = request.branch ? request.branch->machine : powered_on.get();

  std::filesystem::path dir;
  if (request.record_at_once) {
    DEJA_ASSIGN(dir, create_recording_dir(request.recording.name, clock.wall_unix_ns()));
    sandbox::allow_write(dir);
  }
  UnlessStarted cleanup(dir);
  std::unique_ptr<HostInputs> inputs;
  LiveSession* live = nullptr;
  const auto notify = [&](std::string_view line) { inputs->notify(line); };
  SessionRecorder recorder(
      {*machine, request.setup, files, request.serial, request.branch ? &*request.branch : nullptr, notify,
       [&] { return live->host_ns(); }, [&] { return live->instructions(); }},
      request.recording, clock);
  if (request.record_at_once) DEJA_TRY(recorder.begin(dir));
  const Status later = prepare_later(request, dir.parent_path());
  DEJA_ASSIGN(inputs, open_inputs(request, dir, clock));
  std::optional<PictureWriter> pictures;
  if (request.prepared) {
    pictures = request.prepared->take_pictures();
  } else if (machine->has_screen()) {
    DEJA_ASSIGN(pictures, PictureWriter::create());
  }
  for (const DiskImage& image : files.drives) sandbox::allow_read(image.path);  // is it the same at the end?
  DEJA_TRY(sandbox::enter());
  cleanup.started();
  if (request.record_at_once) DEJA_TRY(recorder.start_checkpoints());

  LiveSession session(*machine, *inputs, *inputs, clock, recorder.recording() ? &recorder : nullptr, notify,
                      live_options(request, *machine, recorder, later));
  live = &session;
  inputs->set_monitor_actions(monitor_actions(session, *machine, pictures));

  SessionReport report;
  report.end = session.run();
  report.exit_status = machine->exit_status();
  report.steps = machine->clock().steps;
  report.instructions = session.instructions();
  report.virtual_ns = machine->clock().now();
  report.host_ns = session.host_ns();
  report.counters = machine->engine().counters();
  if (recorder.recording()) (void)recorder.end(report.end);
  report.recordings = recorder.reports();
  return report;
}

}  // namespace deja
