// The processes and threads of a Linux guest, as its kernel lists them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "linux/btf.h"
#include "linux/kallsyms.h"
#include "machine/machine.h"

namespace deja {

struct GuestTask {
  u32 pid = 0;      // the thread's own
  u32 process = 0;  // that of its process: the thread group's
  std::string name;
  std::optional<u64> cr3;  // of its address space; kernel threads have none
};

class TaskList {
 public:
  // `vmlinux`, unpacked, and the symbols in it; `slide`: how far from where it was linked it runs. An error
  // says what is missing: symbols, or the description of types that CONFIG_DEBUG_INFO_BTF adds.
  static Result<TaskList> make(std::span<const u8> vmlinux, const std::vector<KernelSymbol>& symbols,
                               u64 slide);

  // Now; changes nothing. A list that is being changed at this very moment may come back short. An error: the
  // kernel has not set it up yet, or the vCPUs do not map the kernel.
  Result<std::vector<GuestTask>> read(Machine& machine) const;

  // The address space of the process or thread with this PID now.
  Result<u64> address_space_of(Machine& machine, u32 pid) const;

 private:
  u64 init_task_ = 0;  // linear
  struct {
    u32 tasks, pid, tgid, comm, mm, signal, thread_node;  // of task_struct
    u32 thread_head;                                      // of signal_struct
    u32 pgd;                                              // of mm_struct
  } at_{};
};

}  // namespace deja
