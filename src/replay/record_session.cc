#include "replay/record_session.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "base/log.h"
#include "inputs/host_inputs.h"
#include "replay/build_info.h"

namespace deja {
namespace {

class RecordingSink final : public EventSink {
 public:
  explicit RecordingSink(RecordingWriter& writer) : writer_(writer) {}
  Status append(const LogEvent& event) override { return writer_.append(event); }
  Status tick() override { return writer_.tick(); }
  Status flush() override { return writer_.flush(); }
  std::string describe() const override {
    return fmt::format("{}, log of {} bytes", writer_.dir().string(), writer_.log_bytes());
  }

 private:
  RecordingWriter& writer_;
};

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
  const InputStorage storage = request.recording->storage;
  DEJA_ASSIGN(RecordedFile kernel, add_input(dir, "kernel", files.kernel.path, files.kernel.bytes, storage));
  manifest.inputs.push_back(std::move(kernel));
  if (files.initrd) {
    DEJA_ASSIGN(RecordedFile initrd,
                add_input(dir, "initrd", files.initrd->path, files.initrd->bytes, storage));
    manifest.inputs.push_back(std::move(initrd));
  }
  return RecordingWriter::create(dir, std::move(manifest), clock);
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

Result<SessionReport> run_session(const SessionRequest& request, HostClock& clock) {
  // First everything that a wrong option or file makes fail, so that nothing is left behind then.
  DEJA_ASSIGN(const GuestFiles files, read_guest_files(request.kernel, request.initrd));
  DEJA_ASSIGN(const MachineConfig config, machine_config(request.setup, files));
  DEJA_ASSIGN(const std::unique_ptr<Machine> machine, Machine::create(config, request.engine));

  std::filesystem::path dir;
  if (request.recording) {
    DEJA_ASSIGN(dir, create_recording_dir(request.recording->name, clock.wall_unix_ns()));
  }
  UnlessStarted cleanup(dir);
  std::unique_ptr<RecordingWriter> writer;
  std::optional<RecordingSink> sink;
  HostInputsConfig inputs_config;
  inputs_config.serial = request.serial;
  inputs_config.monitor_socket = request.monitor_socket;
  if (request.recording) {
    DEJA_ASSIGN(writer, start_recording(dir, request, files, clock));
    sink.emplace(*writer);
    if (!request.monitor_socket) inputs_config.monitor_socket = writer->monitor_socket();
  }
  DEJA_ASSIGN(const std::unique_ptr<HostInputs> inputs, HostInputs::create(std::move(inputs_config), clock));
  cleanup.started();

  const bool stdio = std::any_of(request.serial.begin(), request.serial.end(),
                                 [](const SerialConfig& s) { return s.kind == SerialConfig::Kind::stdio; });
  LiveOptions options;
  options.interactive = stdio && ::isatty(STDIN_FILENO);
  const auto notify = [&](std::string_view line) { inputs->notify(line); };
  LiveSession session(*machine, *inputs, *inputs, clock, sink ? &*sink : nullptr, notify, options);
  inputs->set_status_provider([&] { return session.status(); });

  SessionReport report;
  report.end = session.run();
  report.exit_status = machine->exit_status();
  report.steps = machine->clock().steps;
  report.instructions = instructions_retired(*machine, session.warps());
  report.virtual_ns = machine->clock().now();
  report.host_ns = session.host_ns();
  report.digests = session.digests();
  report.counters = machine->engine().counters();
  report.recording = dir;
  if (writer) {
    EndInfo info;
    info.end = report.end;
    info.final_step = report.steps;
    info.instructions = report.instructions;
    info.virtual_ns = report.virtual_ns;
    info.host_ns = report.host_ns;
    info.digests = report.digests;
    if (Status status = writer->finish(info); !status) report.recording_error = status.error();
    report.log_bytes = writer->log_bytes();
  }
  return report;
}

}  // namespace deja
