// A machine driven by an event log: what LiveSession wrote is read back, each event at its step. Sleeps up to
// a timer deadline are recomputed.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "eventlog/recording.h"
#include "replay/guest_setup.h"
#include "replay/live_session.h"

namespace deja {

// The replay does something else than the recording says.
struct Divergence {
  Step step = 0;
  Step last_good = 0;  // the last digest before that was identical; 0: the start
  std::string reason;  // for people
  // When a digest shows it; else the machine cannot go on as recorded.
  struct Digests {
    MachineDigest recorded, replayed;
  };
  std::optional<Digests> digests;
};

class Replayer {
 public:
  struct Hooks {
    std::function<void(std::string_view)> output;  // what the guest sends on COM1
    std::function<void(std::string_view)> frame;   // a frame that the guest sends; must not touch the machine
    std::function<void(VtimeNs)> pace;             // called before virtual time passes `VtimeNs`; may sleep
  };

  // Checks that this program can replay it, reads the inputs, builds the machine, and brings it to where the
  // recording begins: power-on, or its base.
  static Result<std::unique_ptr<Replayer>> open(const std::filesystem::path& dir, const EngineOptions& engine,
                                                Hooks hooks = {});
  // Leaves it at power-on in any case. If the recording has a base, the machine must be restored before it
  // runs.
  static Result<std::unique_ptr<Replayer>> open_at_power_on(const std::filesystem::path& dir,
                                                            const EngineOptions& engine, Hooks hooks = {});

  // off: digests in the log are passed over (bisect compares machines with each other).
  void check_digests(bool on) { check_digests_ = on; }

  enum class Stop {
    reached,   // the machine is at `target`, with all events stamped so far applied
    log_end,   // at the log's last event, which is before `target`
    observed,  // Machine::run came back for that; run_to again once it was taken
    diverged,  // divergence() says how
  };
  // Never goes back: `target` is at least step(). An error: the log is damaged.
  Result<Stop> run_to(Step target);

  // Where a replay stands, but for the RAM.
  struct Point {
    MachineState machine;
    LogReader::Cursor log;
    u64 events = 0, warps = 0, deliveries = 0;
    Step last_good = 0;
  };
  // Brings the machine to rest first, which changes nothing.
  Point save();
  // RAM must be put back as well, through machine().ram(). A divergence is forgotten.
  Status restore(const Point& point);

  Step step() const { return machine_->clock().steps; }
  Machine& machine() { return *machine_; }
  SessionCounts counts() const;
  const RecordingManifest& manifest() const { return recording_.manifest; }
  const std::optional<Divergence>& divergence() const { return divergence_; }
  u64 digests_checked() const { return digests_checked_; }
  // Since power-on, and at the recording's beginning.
  u64 instructions();
  u64 instructions_before() const;
  // The last events that were applied, oldest first; checks and marks among them.
  const std::deque<LogEvent>& recent_events() const { return recent_; }

 private:
  explicit Replayer(Recording recording) : recording_(std::move(recording)) {}
  Status init(const EngineOptions& engine, Hooks hooks);
  Status go_to_base();
  Result<Stop> follow_log(Step target);
  // Lets the machine run to `step`.
  Stop drive(Step step);
  bool apply(const LogEvent& event);
  bool diverge(std::string reason);
  void show_output();

  Recording recording_;
  GuestFiles files_;
  std::unique_ptr<Machine> machine_;
  Hooks hooks_;
  bool check_digests_ = true;
  std::string text_;
  u64 events_ = 0;  // taken from the log
  u64 warps_ = 0;
  u64 deliveries_before_ = 0;  // of exceptions and interrupts, less those that the engine has counted
  u64 digests_checked_ = 0;
  Step last_good_ = 0;
  std::deque<LogEvent> recent_;
  std::optional<Divergence> divergence_;
};

}  // namespace deja
