#include "timeline/branch.h"

#include "timeline/serial_text.h"

namespace deja {
namespace {

// Where the branch's checkpoints go on, and what was sent since; leaves `nav` where it stands.
Status add_checkpoints(Navigator& nav, BranchPoint* branch) {
  const Step here = nav.position();
  DEJA_ASSIGN(CheckpointWriter::Continuation from, nav.continuation());
  while (true) {
    const auto start = [&] { return from.reader ? from.reader->point(from.checkpoint).step : nav.first(); };
    const Step since = start();
    DEJA_ASSIGN(branch->serial, serial_text(nav, since, here));
    // On this way it may have come by an earlier one.
    DEJA_ASSIGN(from, nav.continuation());
    if (start() == since) break;
  }
  branch->checkpoints = std::move(from);
  return {};
}

}  // namespace

Result<BranchPoint> branch_here(Navigator& nav) {
  if (nav.machine().end() != MachineEnd::none)
    return make_error("the machine has ended at step {}: go on from an earlier moment", nav.position());
  BranchPoint branch;
  branch.machine = &nav.machine();
  branch.parent = nav.manifest();
  branch.parent_dir = nav.dir();
  // Without a base the checkpoints are not needed.
  if (Status status = add_checkpoints(nav, &branch); !status && nav.manifest().base) return status.error();
  DEJA_TRY(nav.load_all());  // last: whatever goes back in time makes pages absent again
  branch.counts = nav.replayer().counts();
  DEJA_ASSIGN(Recording recording, Recording::reopen(nav.dir(), nav.manifest()));
  while (branch.log.size() < branch.counts.events) {
    DEJA_ASSIGN(const std::optional<LogEvent> event, recording.log.next());
    DEJA_CHECK(event, "the log has become shorter");
    // An end that was of the host's making was not the machine's.
    if (!std::holds_alternative<event::End>(event->body))
      branch.log.push_back(*event);
    else
      --branch.counts.events;
  }
  return branch;
}

}  // namespace deja
