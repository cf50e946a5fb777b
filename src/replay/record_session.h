// A session with the real world, recorded (`deja record`) or not (`deja run`): from what the user asked for
// to the end of the run.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eventlog/recording.h"
#include "inputs/host_inputs.h"
#include "inputs/nic_config.h"
#include "inputs/serial_config.h"
#include "replay/guest_setup.h"
#include "replay/live_session.h"
#include "replay/screenshot.h"
#include "replay/session_recorder.h"

namespace deja {

// What a session makes on the host, made before the sandbox is entered: a session that goes on from a moment
// of a recording begins after a guest has run. Nothing is left of it unless it is handed to a session.
class PreparedSession {
 public:
  // The terminal stays as it is until the session begins. `clock` outlives the object. `screen`: pictures of
  // it may be asked for.
  static Result<PreparedSession> make(const std::string& name, std::vector<SerialConfig> serial,
                                      NicConfig nic, bool screen, HostClock& clock);
  PreparedSession(PreparedSession&&) = default;
  PreparedSession& operator=(PreparedSession&&) = delete;

  std::unique_ptr<HostInputs> take_inputs() { return std::move(inputs_); }
  std::optional<PictureWriter> take_pictures() { return std::move(pictures_); }

 private:
  explicit PreparedSession(FutureRecording recording) : recording_(std::move(recording)) {}
  FutureRecording recording_;
  std::unique_ptr<HostInputs> inputs_;  // the monitor's socket is in the recording
  std::optional<PictureWriter> pictures_;
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
  // How the session is recorded, and how what is asked for in mid-run is.
  RecordingRequest recording;
  bool record_at_once = false;
  // Where recordings that begin in mid-run go; empty: beside the first one, or where recordings usually are.
  std::string recordings_dir;
  bool guest_may_record = false;
  // Present: the machine is this one, and what describes another above is not looked at. To be recorded at
  // once.
  std::optional<BranchPoint> branch;
  std::optional<PreparedSession> prepared;  // for a branch
};

struct SessionReport {
  event::End end;
  u32 exit_status = 0;  // as Machine::exit_status
  Step steps = 0;
  u64 instructions = 0;
  u64 virtual_ns = 0, host_ns = 0;
  EngineCounters counters;
  std::vector<RecordingReport> recordings;
};

// Runs until the guest or the user ends it. An error means that nothing ran.
Result<SessionReport> run_session(SessionRequest request, HostClock& clock);

}  // namespace deja
