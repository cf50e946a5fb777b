// What gdb's `monitor` passes on: the commands that know of time.
#include <charconv>

#include "base/printable.h"
#include "gdb/symbol_setup.h"
#include "gdb/time_target.h"
#include "linux/kernel_log.h"
#include "linux/modules.h"
#include "replay/position.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

constexpr std::string_view kHelp =
    "when                          where this is\n"
    "seek POSITION                 go there: a step number, N%, +2s, serial:\"text\", panic…\n"
    "checkpoint                    remember this place\n"
    "checkpoints                   the places remembered\n"
    "restart N                     go to the Nth of them\n"
    "who-wrote ADDRESS[/LENGTH] [phys] [all]\n"
    "                              the last write of these bytes, or every one up to here\n"
    "insn [N]                      the next N instructions, in the mode that the vCPU is in\n"
    "images                        programs and libraries mapped here: address, where linked, build-id\n"
    "processes                     the processes and threads of a Linux guest\n"
    "modules [sections]            the modules of its kernel; or their build-ids and where their sections "
    "are\n"
    "dmesg                         what its kernel has said\n"
    "kernel                        how far from where it was linked the recorded kernel runs\n"
    "process here|PID|any          where breakpoints in programs stop: in the present address space, in that "
    "of "
    "PID,\n"
    "                              or in all (any)\n"
    "interrupts hide|show          whether single steps pass over handlers of interrupts and faults (hide)\n"
    "(After seek and restart gdb's own idea of registers is old; deja's gdb commands see to that.)\n";

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + ' ') {
    if (c != ' ' && c != '\t' && c != '\n') {
      word.push_back(c);
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ",") + printable(name);
  return list;
}

bool parse_decimal(std::string_view text, u32* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<const TaskList*> TimeTarget::task_list() {
  if (!tasks_) {
    DEJA_ASSIGN(tasks_, make_task_list(nav_));
  }
  return &*tasks_;
}

Result<std::string> TimeTarget::limit_to_process(u32 pid) {
  DEJA_ASSIGN(const TaskList* tasks, task_list());
  DEJA_ASSIGN(process_, tasks->address_space_of(machine(), pid));
  return show("breakpoints in programs stop in process {} (CR3 {:#x}) only\n", pid, *process_);
}

Result<std::string> TimeTarget::list_processes() {
  DEJA_ASSIGN(const TaskList* tasks, task_list());
  DEJA_ASSIGN(const std::vector<GuestTask> all, tasks->read(machine()));
  std::string text = show("{:>8} {:>8} {:<16} {}\n", "PID", "PROCESS", "NAME", "CR3");
  for (const GuestTask& t : all)
    text += show("{:>8} {:>8} {:<16} {}\n", t.pid, t.process, t.name, t.cr3 ? show("{:#x}", *t.cr3) : "-");
  return text;
}

Result<std::string> TimeTarget::list_modules(bool sections) {
  DEJA_ASSIGN(const TaskList* tasks, task_list());
  DEJA_ASSIGN(const std::vector<GuestModule> all, read_modules(tasks->kernel(), machine()));
  if (sections) {
    std::string text;
    for (const GuestModule& m : all) {
      text += show("{} {}", m.name, m.build_id.empty() ? "-" : m.build_id);
      for (const auto& [name, address] : m.sections) text += show(" {}={:#x}", name, address);
      text += '\n';
    }
    return text;
  }
  std::string text = show("{:<18} {:<24} {:>8} {:>5} {}\n", "ADDRESS", "NAME", "SIZE", "USERS", "USED BY");
  for (const GuestModule& m : all)
    text += show("{:#018x} {:<24} {:>8} {:>5} {}\n", m.base, m.name, m.size, m.users, joined(m.used_by));
  return text;
}

Result<std::string> TimeTarget::kernel_log() {
  DEJA_ASSIGN(const TaskList* tasks, task_list());
  DEJA_ASSIGN(const std::vector<KernelMessage> all, read_kernel_log(tasks->kernel(), machine()));
  return as_dmesg(all);
}

std::string TimeTarget::kernel_place() {
  const auto place = kernel_ ? find_kernel(machine(), *kernel_) : std::nullopt;
  return place ? show("{:#x}\n", place->slide) : "not set up at this moment\n";
}

Result<GdbOsTable> TimeTarget::os_table(std::string_view kind) {
  DEJA_ASSIGN(const TaskList* tasks, task_list());
  GdbOsTable table;
  if (kind == "modules") {
    DEJA_ASSIGN(const std::vector<GuestModule> all, read_modules(tasks->kernel(), machine()));
    table.columns = {"name", "size", "num uses", "dependencies", "status", "address"};
    for (const GuestModule& m : all)
      table.rows.push_back({m.name, std::to_string(m.size), std::to_string(m.users),
                            m.used_by.empty() ? "-" : joined(m.used_by), m.state, show("{:#x}", m.base)});
    return table;
  }
  const bool threads = kind == "threads";
  if (!threads && kind != "processes")
    return make_error("info os {}: there are processes, threads and modules", kind);
  DEJA_ASSIGN(const std::vector<GuestTask> all, tasks->read(machine()));
  table.columns = threads ? std::vector<std::string>{"pid", "command", "tid", "core"}
                          : std::vector<std::string>{"pid", "user", "command", "cores", "page table"};
  for (const GuestTask& t : all) {
    const std::string cpu = t.cpu ? std::to_string(*t.cpu) : "-";
    if (threads)
      table.rows.push_back({std::to_string(t.process), t.name, std::to_string(t.pid), cpu});
    else if (t.pid == t.process)
      table.rows.push_back(
          {std::to_string(t.pid), std::to_string(t.user), t.name, cpu, t.cr3 ? show("{:#x}", *t.cr3) : "-"});
  }
  return table;
}

std::string TimeTarget::when() {
  const CpuState& s = machine().cpu(current_);
  const Step at = nav_.position(), first = nav_.first();
  const u64 ns = machine().now();
  auto last = nav_.steps().whole_end();
  const std::string percent =
      !last ? "of a damaged recording"
      : *last > first
          ? show("{:.2f}%", 100.0 * static_cast<double>(at - first) / static_cast<double>(*last - first))
          : "100.00%";
  return show("step {} ({}), {}.{:09} s of guest time, vCPU {} {} at {:#x}\n", format_count(at), percent,
              ns / 1'000'000'000, ns % 1'000'000'000, current_, s.cpl() == 3 ? "user" : "kernel",
              linear_pc(s));
}

Result<std::string> TimeTarget::instructions(unsigned vcpu, std::string_view count) {
  unsigned n = 1;
  if (!count.empty()) {
    const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), n);
    if (error != std::errc() || end != count.data() + count.size() || n < 1 || n > 1000)
      return make_error("insn {}: how many? 1 to 1000", count);
  }
  std::string text;
  u64 pc = linear_pc(machine().cpu(vcpu));
  for (unsigned i = 0; i < n; ++i) {
    const GuestInsn insn = instruction_at(machine(), vcpu, pc);
    if (!insn.ok) return text + show("{:#x}: no instruction\n", pc);
    text += show("{:#x}: {}\n", pc, insn.text);
    pc += insn.insn.length;
  }
  return text;
}

Result<std::string> TimeTarget::who_wrote_command(std::vector<std::string> words, unsigned vcpu,
                                                  const std::function<bool()>& interrupted) {
  WhoWrote request;
  bool physical = false;
  std::string where;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "all")
      request.all = true;
    else if (words[i] == "phys")
      physical = true;
    else if (where.empty())
      where = words[i];
    else
      return make_error("who-wrote: '{}' is not understood; see monitor help", words[i]);
  }
  DEJA_ASSIGN(const MemoryRange range, parse_memory_range(where));
  if (physical) {
    DEJA_ASSIGN(request.pieces, locate_physical(machine(), range.address, range.size));
  } else {
    DEJA_ASSIGN(request.pieces, locate_linear(machine(), vcpu, {}, range.address, range.size));
  }
  const Step here = nav_.position();
  request.at = here;
  request.interrupted = interrupted;
  request.workers = workers_;
  const unsigned was = current_;
  auto writes = who_wrote(nav_, request);
  DEJA_TRY(seek(here));
  current_ = was;
  if (!writes) return writes.error();
  std::string text;
  for (const Write& w : *writes) text += describe(w) + "\n";
  if (writes->empty()) text = "nobody since power-on\n";
  return text;
}

Result<std::string> TimeTarget::command(const std::string& text, unsigned vcpu,
                                        const std::function<bool()>& interrupted) {
  const std::vector<std::string> words = split(text);
  if (words.empty() || words[0] == "help") return std::string(kHelp);
  const std::string& verb = words[0];
  const std::string argument = words.size() > 1 ? words[1] : "";
  if (verb == "when") return when();
  if (verb == "seek") {
    if (words.size() < 2) return make_error("seek: where to? a step number, N%, -500ms, serial:\"text\"…");
    // Finding out may go anywhere.
    const Step here = nav_.position();
    const auto to = find_position(nav_, text.substr(text.find(argument, verb.size())), here);
    DEJA_TRY(seek(to ? to.value() : here));
    if (!to) return to.error();
    return when();
  }
  if (verb == "checkpoint") {
    bookmarks_.push_back(nav_.position());
    return show("checkpoint {}: {}", bookmarks_.size(), Lines{when()});
  }
  if (verb == "checkpoints") {
    std::string list;
    for (std::size_t i = 0; i < bookmarks_.size(); ++i)
      list += show("{}: step {}\n", i + 1, format_count(bookmarks_[i]));
    return list.empty() ? "no checkpoints; `checkpoint` makes one\n" : list;
  }
  if (verb == "restart") {
    u64 n = 0;
    const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), n);
    if (error != std::errc() || end != argument.data() + argument.size() || n < 1 || n > bookmarks_.size())
      return make_error("restart: there is no checkpoint '{}'; `monitor checkpoints` lists them", argument);
    DEJA_TRY(seek(bookmarks_[n - 1]));
    return when();
  }
  if (verb == "who-wrote") return who_wrote_command(words, vcpu, interrupted);
  if (verb == "images") {
    std::string list;
    for (const GuestImage& image : guest_images(machine(), vcpu))
      list +=
          show("{:#x} {:#x} {}\n", image.base, image.lowest, image.build_id.empty() ? "-" : image.build_id);
    return list;
  }
  if (verb == "insn") return instructions(vcpu, argument);
  if (verb == "processes") return list_processes();
  if (verb == "modules") return list_modules(argument == "sections");
  if (verb == "dmesg") return kernel_log();
  if (verb == "kernel") return kernel_place();
  if (u32 pid = 0; verb == "process" && parse_decimal(argument, &pid)) return limit_to_process(pid);
  if (verb == "process" && (argument == "here" || argument == "any")) {
    process_.reset();
    if (argument == "here") process_ = machine().cpu(vcpu).cr3;
    return process_
               ? show("breakpoints in programs stop in the address space with CR3 {:#x} only\n", *process_)
               : std::string("breakpoints in programs stop in every process\n");
  }
  if (verb == "interrupts" && (argument == "hide" || argument == "show")) {
    hide_interrupts_ = argument == "hide";
    return std::string();
  }
  return make_error("'{}' is not a command of deja's; monitor help lists them", text);
}

}  // namespace deja
