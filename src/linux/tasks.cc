#include "linux/tasks.h"

namespace deja {
namespace {

constexpr std::size_t kMostTasks = 1 << 20;  // more than PID_MAX_LIMIT allows is a loop, of either list
constexpr std::size_t kNameBytes = 16;       // TASK_COMM_LEN

}  // namespace

Result<TaskList> TaskList::make(GuestKernel kernel) {
  TaskList list(std::move(kernel));
  const Btf& types = list.kernel_.types();
  const auto offset = [&](std::string_view structure, std::string_view member, u32* to) -> Status {
    DEJA_ASSIGN(*to, types.offset_of(structure, member));
    return {};
  };
  DEJA_TRY(offset("task_struct", "tasks", &list.at_.tasks));
  DEJA_TRY(offset("task_struct", "pid", &list.at_.pid));
  DEJA_TRY(offset("task_struct", "tgid", &list.at_.tgid));
  DEJA_TRY(offset("task_struct", "comm", &list.at_.comm));
  DEJA_TRY(offset("task_struct", "mm", &list.at_.mm));
  DEJA_TRY(offset("task_struct", "signal", &list.at_.signal));
  DEJA_TRY(offset("task_struct", "thread_node", &list.at_.thread_node));
  DEJA_TRY(offset("task_struct", "cred", &list.at_.cred));
  DEJA_TRY(offset("cred", "uid", &list.at_.uid));
  DEJA_TRY(offset("signal_struct", "thread_head", &list.at_.thread_head));
  DEJA_TRY(offset("mm_struct", "pgd", &list.at_.pgd));
  // Since Linux 5.16 it is in the part that every architecture has.
  u32 info = 0, cpu = 0;
  if (offset("task_struct", "thread_info", &info) && offset("thread_info", "cpu", &cpu))
    list.cpu_at_ = info + cpu;
  else if (offset("task_struct", "cpu", &cpu))
    list.cpu_at_ = cpu;
  return list;
}

Result<std::vector<GuestTask>> TaskList::read(const Machine& machine) const {
  DEJA_ASSIGN(const RunningKernel kernel, kernel_.at_this_moment(machine));
  DEJA_ASSIGN(const u64 init_task, kernel.address_of("init_task"));
  const GuestView& guest = kernel.memory();
  const auto word = [&](u64 address, auto* to) { return guest.value(address, to); };

  std::vector<GuestTask> tasks;
  // Takes a thread; false: it is not readable.
  const auto take = [&](u64 task) {
    GuestTask t;
    u64 mm = 0, pgd = 0, cred = 0;
    const std::optional<std::string> name = guest.text(task + at_.comm, kNameBytes);
    if (!name || !word(task + at_.pid, &t.pid) || !word(task + at_.tgid, &t.process) ||
        !word(task + at_.mm, &mm) || !word(task + at_.cred, &cred) || !word(cred + at_.uid, &t.user))
      return false;
    t.name = *name;
    if (u32 cpu = 0; cpu_at_ && word(task + *cpu_at_, &cpu)) t.cpu = cpu;
    if (mm && word(mm + at_.pgd, &pgd))
      if (const auto table = guest.translate(pgd)) t.cr3 = table->value;
    tasks.push_back(std::move(t));
    return tasks.size() < kMostTasks;
  };
  u64 leader = init_task;
  std::size_t leaders = 0;
  do {
    u64 signal = 0, next = 0;
    if (!word(leader + at_.signal, &signal) || !signal) break;
    const u64 head = signal + at_.thread_head;
    bool sound = word(head, &next);
    for (; sound && next != head; sound = sound && word(next, &next)) sound = take(next - at_.thread_node);
    if (!word(leader + at_.tasks, &next) || tasks.size() >= kMostTasks) break;
    leader = next - at_.tasks;
  } while (leader != init_task && ++leaders < kMostTasks);
  return tasks;
}

Result<u64> TaskList::address_space_of(const Machine& machine, u32 pid) const {
  DEJA_ASSIGN(const std::vector<GuestTask> tasks, read(machine));
  for (const GuestTask& t : tasks) {
    if (t.pid != pid) continue;
    if (t.cr3) return *t.cr3;
    return make_error("PID {} ({}) is a kernel thread: it has no addresses of its own", pid, t.name);
  }
  return make_error("there is no process or thread with PID {} at this moment; {} are there", pid,
                    tasks.size());
}

std::vector<u32> running_threads(const GuestKernel& kernel, const Machine& machine) {
  std::vector<u32> pids(machine.vcpu_count());
  const auto running = kernel.at_this_moment(machine);
  if (!running) return pids;
  const auto areas = running.value().address_of("__per_cpu_offset");
  const auto current = kernel.linked_address_of("current_task");
  const auto pid = kernel.types().offset_of("task_struct", "pid");
  if (!areas || !current || !pid) return pids;
  const GuestView& guest = running.value().memory();
  for (unsigned i = 0; i < pids.size(); ++i) {
    u64 area = 0, task = 0;
    if (guest.value(areas.value() + i * sizeof area, &area) && guest.value(area + current.value(), &task))
      guest.value(task + pid.value(), &pids[i]);
  }
  return pids;
}

}  // namespace deja
