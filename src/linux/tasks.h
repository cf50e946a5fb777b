// The processes and threads of a Linux guest, as its kernel lists them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "linux/guest_kernel.h"

namespace deja {

struct GuestTask {
  u32 pid = 0;             // the thread's own
  u32 process = 0;         // that of its process: the thread group's
  u32 user = 0;            // the one that it acts for
  std::optional<u32> cpu;  // where it runs, or ran last
  std::string name;
  std::optional<u64> cr3;  // of its address space; kernel threads have none
};

class TaskList {
 public:
  // An error says what the kernel lacks.
  static Result<TaskList> make(GuestKernel kernel);
  const GuestKernel& kernel() const { return kernel_; }

  // Now; changes nothing. A list that is being changed at this very moment may come back short. An error: the
  // kernel has not set it up yet, or the vCPUs do not map the kernel.
  Result<std::vector<GuestTask>> read(const Machine& machine) const;

  // The address space of the process or thread with this PID now.
  Result<u64> address_space_of(const Machine& machine, u32 pid) const;

 private:
  explicit TaskList(GuestKernel kernel) : kernel_(std::move(kernel)) {}

  GuestKernel kernel_;
  struct {
    u32 tasks, pid, tgid, comm, mm, signal, thread_node, cred;  // of task_struct
    u32 uid;                                                    // of cred
    u32 thread_head;                                            // of signal_struct
    u32 pgd;                                                    // of mm_struct
  } at_{};
  std::optional<u32> cpu_at_;  // of task_struct; kernels for one CPU have none
};

// The PID of the thread that each vCPU runs now; 0: none but the idle one, or it is not known.
std::vector<u32> running_threads(const GuestKernel& kernel, const Machine& machine);

}  // namespace deja
