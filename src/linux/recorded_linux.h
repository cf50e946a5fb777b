// What the Linux in a recording says of itself at the present moment.
#pragma once

#include <optional>
#include <vector>

#include "linux/kernel_log.h"
#include "linux/modules.h"
#include "linux/tasks.h"
#include "timeline/navigator.h"

namespace deja {

// Its kernel is read from the recording when something is first asked. Errors say what the kernel lacks, or
// that it is not set up yet. Asking changes nothing.
class RecordedLinux {
 public:
  // `nav` outlives it.
  explicit RecordedLinux(Navigator& nav) : nav_(nav) {}

  Result<std::vector<GuestTask>> tasks();
  Result<std::vector<GuestModule>> modules();
  Result<std::vector<KernelMessage>> messages();
  // The page table of the process or thread with this PID.
  Result<u64> address_space_of(u32 pid);

 private:
  Result<const TaskList*> list();

  Navigator& nav_;
  std::optional<TaskList> list_;
};

}  // namespace deja
