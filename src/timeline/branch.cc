#include "timeline/branch.h"

namespace deja {

Result<BranchPoint> branch_here(Navigator& nav) {
  if (nav.machine().end() != MachineEnd::none)
    return make_error("the machine has ended at step {}: go on from an earlier moment", nav.position());
  BranchPoint branch;
  branch.machine = &nav.machine();
  branch.parent = nav.manifest();
  branch.parent_dir = nav.dir();
  branch.counts = nav.replayer().counts();
  DEJA_ASSIGN(Recording recording, Recording::open(nav.dir()));
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
