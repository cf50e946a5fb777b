// Runs a machine against the real world: inputs come when they come, an idle guest sleeps on the host, and
// what cannot be computed again is handed to an event sink.
//
// Time: virtual time keeps pace with the host's clock while the guest is idle. A busy guest runs as fast as
// it can, so its clock may fall behind (or get ahead); the next idle phases make up for it: they do not sleep
// (or sleep longer) until both agree again.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eventlog/events.h"
#include "inputs/host_clock.h"
#include "inputs/input_source.h"
#include "machine/machine.h"
#include "replay/end_condition.h"
#include "replay/end_watch.h"
#include "replay/pace.h"
#include "replay/recording_schedule.h"
#include "replay/slice_size.h"
#include "replay/stand_still.h"

namespace deja {

// Where a session's events go; the event log when it is recorded.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // Takes the event in any case; an error means that it is only held in memory so far.
  virtual Status append(const LogEvent& event) = 0;
  // Called about every millisecond.
  virtual Status tick() = 0;
  // Tries again to write what is held in memory.
  virtual Status flush() = 0;
  // Where the events go, for people.
  virtual std::string describe() const = 0;
};

// Digests are taken when the number of steps is a multiple of this: often enough to find a divergence soon,
// seldom enough to cost next to nothing.
inline constexpr Step kDigestInterval = 100'000'000;

// What a session has gone through that its machine does not hold.
struct SessionCounts {
  u64 events = 0;  // in the log
  u64 warps = 0;
  u64 deliveries = 0;  // of exceptions and interrupts
};

// Where a recording begins that begins in mid-run. The machine is at rest there.
struct RecordingStart {
  std::string name;
  SessionCounts counts;  // no events
  u64 instructions = 0;
  u64 host_ns = 0;  // since the session began
};

struct LiveOptions {
  // Counts of the recording that this one goes on from; zero at power-on. `deliveries`: less those that the
  // engine has counted already.
  SessionCounts before;
  u64 before_host_ns = 0;
  std::string sent_before;  // on COM1, since its last checkpoint
  // Somebody sits at the terminal: trouble with the host pauses the session until it is solved. Otherwise it
  // ends the session.
  bool interactive = false;
  std::vector<EndCondition> until;
  // A recording begins in mid-run, with a base: takes its first checkpoint and says where its events go.
  // Empty: this session records only what it records from its start.
  std::function<Result<EventSink*>(const RecordingStart&)> begin_recording;
  // The recording ends at the machine's present step, by a request; the session goes on without its sink.
  // What to tell.
  std::function<std::string(const event::End&)> recording_stopped;
  // May a program in the guest begin one?
  bool guest_may_record = false;
  Step digest_interval = kDigestInterval;
  // Called with the machine at rest, about every so many steps, and what it has sent on COM1 since a
  // checkpoint was taken last. Must not change the machine. False: not now, ask again soon. Empty: never.
  Step checkpoint_interval = 0;
  // Not 0: also when so much host time has passed, in ns; and each comes right behind a digest.
  u64 checkpoint_interval_ns = 0;
  std::function<bool(const SessionCounts&, const std::string& serial)> checkpoint;
};

class LiveSession {
 public:
  using Notify = std::function<void(std::string_view line)>;

  // All outlive the session. `sink` may be null: then nothing is recorded and no digests are taken.
  LiveSession(Machine& machine, InputSource& inputs, SerialOutput& output, HostClock& clock, EventSink* sink,
              Notify notify, LiveOptions options);

  // Runs to the end of the session.
  event::End run();

  // For the monitor; the two below between two slices, as is the case in InputSource::poll(). They answer
  // with what to tell.
  std::string status();
  Result<std::string> start_recording(const std::string& name);
  Result<std::string> stop_recording(const std::string& who);

  u64 warps() const { return warps_; }
  u64 instructions() const;
  u64 digests() const { return digests_; }
  u64 host_ns() const { return pace_.host_ns(); }

 private:
  void run_slice();
  void obey(const GuestCommand& command);
  void obey_record_start(const std::string& name);
  void idle();
  void warp(u64 ns);
  void cut_idle();
  void take_inputs();
  void handle(const HostInput& input);
  // While the machine stands still nothing reaches it; what is typed waits at the host.
  InputRoom room();
  void go_on();
  void stood_still_since(u64 host_ns);
  void hold();
  void drain_output();
  void ask_host_again();
  void trouble(const Error& error);
  void show_output();
  void housekeeping();
  void take_digest();
  void take_checkpoint();
  SessionCounts counts() const;
  void log(const EventBody& body);
  void finish(std::optional<event::End> end);

  Machine& machine_;
  InputSource& inputs_;
  SerialOutput& output_;
  HostClock& clock_;
  EventSink* sink_;
  Notify notify_;
  LiveOptions options_;

  Pace pace_;
  SliceSize slice_;
  StandStill still_;
  RecordingSchedule schedule_;
  EndWatch end_watch_;
  u64 next_poll_ns_ = 0;  // host time
  Step last_digest_ = kNeverStep;
  u64 events_at_digest_ = 0;  // in the log when it was taken, itself included
  u64 events_ = 0;
  std::array<std::string, 2> text_;  // from the guest, by port, not yet handed on
  std::string sent_;  // on COM1 since the last checkpoint, as add_serial_text(); while recorded
  std::array<std::size_t, 2> room_{};
  std::vector<GuestCommand> commands_;  // since the slice began
  bool idle_ = false;  // the machine said so, and neither input nor time has reached it since
  u64 warps_ = 0;
  u64 digests_ = 0;
  bool told_not_to_record_ = false, told_of_marks_ = false;
  std::optional<event::End> end_;
};

// The figure that all verbs report. Steps that retired an instruction or a piece
// of a REP string instruction: all but warps, stalls and deliveries of exceptions and interrupts.
u64 instructions_retired(Machine& machine, u64 warps);

}  // namespace deja
