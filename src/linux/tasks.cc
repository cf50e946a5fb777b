#include "linux/tasks.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "execute/page_walk.h"
#include "linux/linear_memory.h"

namespace deja {
namespace {

constexpr std::size_t kMostTasks = 1 << 20;  // more than PID_MAX_LIMIT allows per list is a loop
constexpr std::size_t kNameBytes = 16;       // TASK_COMM_LEN

// What an ELF file has at an address, up to the end of the segment.
std::span<const u8> at_address(std::span<const u8> elf, u64 address) {
  Elf64_Ehdr h;
  if (elf.size() < sizeof h) return {};
  std::memcpy(&h, elf.data(), sizeof h);
  for (u64 i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    const u64 at = h.e_phoff + i * sizeof p;
    if (at > elf.size() || elf.size() - at < sizeof p) return {};
    std::memcpy(&p, elf.data() + at, sizeof p);
    if (p.p_type != PT_LOAD || address < p.p_vaddr || address - p.p_vaddr >= p.p_filesz) continue;
    if (p.p_offset > elf.size() || p.p_filesz > elf.size() - p.p_offset) return {};
    return elf.subspan(p.p_offset + (address - p.p_vaddr), p.p_filesz - (address - p.p_vaddr));
  }
  return {};
}

std::optional<u64> address_of(const std::vector<KernelSymbol>& symbols, std::string_view name) {
  const auto found =
      std::find_if(symbols.begin(), symbols.end(), [&](const KernelSymbol& s) { return s.name == name; });
  if (found == symbols.end()) return std::nullopt;
  return found->address;
}

}  // namespace

Result<TaskList> TaskList::make(std::span<const u8> vmlinux, const std::vector<KernelSymbol>& symbols,
                                u64 slide) {
  const std::optional<u64> init_task = address_of(symbols, "init_task");
  const std::optional<u64> types = address_of(symbols, "__start_BTF");
  if (!init_task)
    return make_error(
        "the kernel's own symbol table has no init_task (CONFIG_KALLSYMS_ALL), so its processes are not "
        "found");
  if (!types)
    return make_error(
        "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF), so its processes are not found; "
        "name the "
        "address space by its page table instead");
  DEJA_ASSIGN(const Btf btf, Btf::parse(at_address(vmlinux, *types)));
  TaskList list;
  list.init_task_ = *init_task + slide;
  const auto offset = [&](std::string_view structure, std::string_view member, u32* to) -> Status {
    DEJA_ASSIGN(*to, btf.offset_of(structure, member));
    return {};
  };
  DEJA_TRY(offset("task_struct", "tasks", &list.at_.tasks));
  DEJA_TRY(offset("task_struct", "pid", &list.at_.pid));
  DEJA_TRY(offset("task_struct", "tgid", &list.at_.tgid));
  DEJA_TRY(offset("task_struct", "comm", &list.at_.comm));
  DEJA_TRY(offset("task_struct", "mm", &list.at_.mm));
  DEJA_TRY(offset("task_struct", "signal", &list.at_.signal));
  DEJA_TRY(offset("task_struct", "thread_node", &list.at_.thread_node));
  DEJA_TRY(offset("signal_struct", "thread_head", &list.at_.thread_head));
  DEJA_TRY(offset("mm_struct", "pgd", &list.at_.pgd));
  return list;
}

Result<std::vector<GuestTask>> TaskList::read(Machine& machine) const {
  // Any address space that maps the kernel will do.
  std::optional<PagingKey> key;
  for (unsigned i = 0; i < machine.vcpu_count() && !key; ++i) {
    const PagingKey k = paging_key(machine.cpu(i));
    if (u64 next = 0; read_linear(machine, k, init_task_ + at_.tasks, &next, sizeof next) && next) key = k;
  }
  if (!key) return make_error("the kernel's list of processes is not there (yet) at this moment");
  const auto word = [&](u64 address, auto* to) {
    return read_linear(machine, *key, address, to, sizeof *to);
  };

  std::vector<GuestTask> tasks;
  // Takes a thread; false: it is not readable.
  const auto take = [&](u64 task) {
    GuestTask t;
    char name[kNameBytes + 1] = {};
    u64 mm = 0, pgd = 0;
    if (!word(task + at_.pid, &t.pid) || !word(task + at_.tgid, &t.process) ||
        !read_linear(machine, *key, task + at_.comm, name, kNameBytes) || !word(task + at_.mm, &mm))
      return false;
    t.name = name;
    if (mm && word(mm + at_.pgd, &pgd))
      if (const auto table = peek_translation(machine.ram(), *key, Gva(pgd))) t.cr3 = table->value;
    tasks.push_back(std::move(t));
    return tasks.size() < kMostTasks;
  };
  u64 leader = init_task_;
  do {
    u64 signal = 0, next = 0;
    if (!word(leader + at_.signal, &signal) || !signal) break;
    const u64 head = signal + at_.thread_head;
    bool sound = word(head, &next);
    for (; sound && next != head; sound = sound && word(next, &next)) sound = take(next - at_.thread_node);
    if (!word(leader + at_.tasks, &next) || tasks.size() >= kMostTasks) break;
    leader = next - at_.tasks;
  } while (leader != init_task_);
  return tasks;
}

Result<u64> TaskList::address_space_of(Machine& machine, u32 pid) const {
  DEJA_ASSIGN(const std::vector<GuestTask> tasks, read(machine));
  for (const GuestTask& t : tasks) {
    if (t.pid != pid) continue;
    if (t.cr3) return *t.cr3;
    return make_error("PID {} ({}) is a kernel thread: it has no addresses of its own", pid, t.name);
  }
  return make_error("there is no process or thread with PID {} at this moment; {} are there", pid,
                    tasks.size());
}

}  // namespace deja
