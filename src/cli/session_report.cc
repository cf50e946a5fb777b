#include "cli/session_report.h"

#include <algorithm>
#include <cstdio>

#include "base/shell_word.h"
#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/verbs/verbs.h"
#include "replay/position.h"

namespace deja {
namespace {

int status_of(const SessionReport& report) {
  switch (report.end.reason) {
    case event::EndReason::debug_exit:
      return static_cast<int>(report.exit_status & 0xff);  // what _exit keeps; QEMU does the same
    case event::EndReason::power_off:
      return static_cast<int>(report.end.code & 0xff);
    case event::EndReason::host_error:
      return kExitError;
    case event::EndReason::shutdown:
      // With --no-reboot a triple fault is an end like another, as in QEMU.
      return report.end.detail == kTripleFault ? kExitOk : kExitError;
    default:
      return kExitOk;
  }
}

std::string why(const event::End& end) {
  std::string text(to_string(end.reason));
  if (end.reason == event::EndReason::debug_exit || end.code) text += show(" {}", end.code);
  if (!end.detail.empty()) text += ": " + end.detail;
  return text;
}

// The image is as it was before: what a guest wrote is not where a user may look for it.
void tell_where_writes_are(const SessionReport& report, bool network) {
  const std::string recording = shell_word(report.recordings.back().dir.string());
  const bool can_go_on = report.end.reason == event::EndReason::quit ||
                         report.end.reason == event::EndReason::signal ||
                         report.end.reason == event::EndReason::host_error;
  note(
      "disk images are as they were; `deja export {} disk FILE` makes one with what was written{}", recording,
      can_go_on ? show(", `deja live {}{}` goes on from here", recording, network ? " --nic user" : "") : "");
}

// False: it is not what it should be.
bool tell_of(const RecordingReport& r) {
  if (r.error) {
    note("{}", r.error->message);
    note("the recording is not complete; it replays up to what was written: {}", r.dir.string());
    return false;
  }
  if (r.image_error) note("{}: this recording cannot be replayed", r.image_error->message);
  note("recorded in {}: log of {}, {}", r.dir.string(), bytes(r.log_bytes), counted(r.digests, "digest"));
  if (r.kept_ns)
    note("it holds the last {} (--keep), with checkpoints of {}", seconds(r.kept_ns),
         bytes(r.checkpoint_bytes));
  else if (r.checkpoints)
    note("{} of {}", counted(r.checkpoints, "checkpoint"), bytes(r.checkpoint_bytes));
  if (r.checkpoint_error)
    note(
        "{}; the recording is complete, but has no more checkpoints from there on: "
        "`deja index` makes them",
        r.checkpoint_error->message);
  return !r.image_error;
}

}  // namespace

int report_session(const SessionReport& report, bool stats) {
  if (stats) tell("{}", Lines{engine_text({report.counters, report.instructions, report.host_ns})});
  int status = status_of(report);
  const bool recorded = !report.recordings.empty();
  const bool quiet_end = report.end.reason == event::EndReason::power_off ||
                         report.end.reason == event::EndReason::debug_exit ||
                         report.end.reason == event::EndReason::quit;
  if (!quiet_end || recorded || stats) {
    note("ended by {}, after {} instructions in {} ({} of the guest's time)", why(report.end),
         format_count(report.instructions), seconds(report.host_ns), seconds(report.virtual_ns));
  }
  for (const RecordingReport& recording : report.recordings)
    if (!tell_of(recording)) status = kExitError;
  return status;
}

Result<int> run_and_report(const MachineOptions& machine, const EngineArguments& engine,
                           SessionRequest request) {
  RealHostClock clock;
  DEJA_ASSIGN(auto options, engine.apply());
  request.engine = options;
  DEJA_TRY(machine.apply(&request, clock));
  const auto& drives = request.setup.spec.drives;
  const bool may_write =
      std::any_of(drives.begin(), drives.end(), [](const DriveSpec& d) { return !d.read_only; });
  const bool network = request.nic.kind == NicConfig::Kind::user;
  // Said before somebody has worked for a day.
  if (may_write && !request.record_at_once)
    note("what the guest writes to its disks is gone when this run ends; `deja record` keeps it");
  DEJA_ASSIGN(auto report, run_session(std::move(request), clock));
  const int status = report_session(report, engine.stats);
  if (may_write && !report.recordings.empty()) {
    const RecordingReport& last = report.recordings.back();
    if (!last.error && !last.image_error && last.final_step == report.steps)
      tell_where_writes_are(report, network);
  }
  return status;
}

}  // namespace deja
