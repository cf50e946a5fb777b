#include "linux/recorded_linux.h"

#include "linux/recorded_kernel.h"

namespace deja {

Result<const TaskList*> RecordedLinux::list() {
  if (!list_) {
    DEJA_ASSIGN(GuestKernel kernel, find_guest_kernel(nav_));
    DEJA_ASSIGN(list_, TaskList::make(std::move(kernel)));
  }
  return &*list_;
}

Result<std::vector<GuestTask>> RecordedLinux::tasks() {
  DEJA_ASSIGN(const TaskList* tasks, list());
  return tasks->read(nav_.machine());
}

Result<std::vector<GuestModule>> RecordedLinux::modules() {
  DEJA_ASSIGN(const TaskList* tasks, list());
  return read_modules(tasks->kernel(), nav_.machine());
}

Result<std::vector<KernelMessage>> RecordedLinux::messages() {
  DEJA_ASSIGN(const TaskList* tasks, list());
  return read_kernel_log(tasks->kernel(), nav_.machine());
}

Result<u64> RecordedLinux::address_space_of(u32 pid) {
  DEJA_ASSIGN(const TaskList* tasks, list());
  return tasks->address_space_of(nav_.machine(), pid);
}

}  // namespace deja
