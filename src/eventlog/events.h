// The schema of the event log: what is written while a machine runs so that the run can be reproduced. The
// bytes on disk are described in docs/recording-format.md. Serial output, interrupts, disk contents and
// everything else that the machine computes is not here: it is computed again.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/types.h"
#include "inputs/input.h"

namespace deja {

namespace event {

// The host's date when this step was reached: at the start, and whenever it was found to have been set.
struct WallClock {
  i64 unix_ns = 0;
  bool operator==(const WallClock&) const = default;
};

// About once a second, and when the machine has slept: how far it has come. A recording whose recorder was
// killed is replayed up to its last event, usually one of these.
struct Progress {
  u64 host_ns = 0;  // host monotonic time since the start of the recording
  bool operator==(const Progress&) const = default;
};

// A sleep (all vCPUs halted) that ended before the next timer deadline because input came: the warp is this
// long. Sleeps that last up to the deadline follow from the machine's state and are not logged.
struct IdleCut {
  u64 warp_ns = 0;
  bool operator==(const IdleCut&) const = default;
};

// The whole machine's content after all events of this step.
struct Digest {
  u64 cpu = 0;
  u64 ram = 0;
  u64 devices = 0;  // with pending events and disk overlays
  bool operator==(const Digest&) const = default;
};

enum class EndReason : u8 {
  power_off = 0,   // the guest switched itself off (ACPI S5)
  debug_exit = 1,  // the guest wrote to the debug-exit port
  quit = 2,        // a person asked for it
  signal = 3,      // SIGINT, SIGTERM, SIGHUP
  shutdown = 4,    // every vCPU is in shutdown and nothing resets it
  step_limit = 5,  // no longer made
  host_error = 6,  // the recorder could not go on (disk full…)
  reset = 7,       // the guest reset the machine, and was to run only once
};
inline constexpr u8 kEndReasons = 8;

// The last event of a recording that was ended in order.
struct End {
  EndReason reason = EndReason::quit;
  u32 code = 0;        // debug_exit: the value written
  std::string detail;  // for people: the signal's name, the error
  bool operator==(const End&) const = default;
};

}  // namespace event

using EventBody =
    std::variant<input::SerialBytes, input::SerialBreak, input::PowerButton, input::NmiButton,
                 input::ResetButton, input::Pause, input::Resume, input::Mark, event::WallClock,
                 event::Progress, event::IdleCut, event::Digest, event::End, input::NetFrame, input::Keys>;

struct LogEvent {
  Step step = 0;
  EventBody body;
  bool operator==(const LogEvent&) const = default;
};

// What a HostInput is in the log; nullopt for Quit, which is not logged itself.
std::optional<EventBody> to_event(const HostInput& in);

// Does replay apply this event to the machine (inputs and idle cuts), or is it information or a check?
bool reaches_machine(const EventBody& body);

// Name of an event's kind as printed and as given to `deja dump --kind`: "serial", "break", "power", "nmi",
// "reset", "pause", "resume", "mark", "wallclock", "progress", "idle-cut", "digest", "end", "frame", "keys".
std::string_view kind_name(const EventBody& body);
inline constexpr std::size_t kEventKinds = std::variant_size_v<EventBody>;
std::string_view kind_name(std::size_t index);  // index into EventBody's alternatives

std::string_view to_string(event::EndReason reason);  // "power-off", "debug-exit"…
std::optional<event::EndReason> parse_end_reason(std::string_view text);

// One line without step and newline, e.g. `serial port=0 "ls\r"`. Bytes that are not printable are escaped.
std::string describe(const EventBody& body);

}  // namespace deja
