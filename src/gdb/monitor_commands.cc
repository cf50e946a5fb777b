// What gdb's `monitor` passes on: the commands that know of time.

#include "base/parse_number.h"
#include "base/printable.h"
#include "gdb/os_tables.h"
#include "gdb/time_target.h"
#include "linux/guest_images.h"
#include "linux/listings.h"
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

}  // namespace

Result<std::string> TimeTarget::limit_to_process(u32 pid) {
  DEJA_ASSIGN(process_, linux_.address_space_of(pid));
  return show("breakpoints in programs stop in process {} (CR3 {:#x}) only\n", pid, *process_);
}

Result<GdbOsTable> TimeTarget::os_table(std::string_view kind) {
  if (kind == "modules") {
    DEJA_ASSIGN(const std::vector<GuestModule> modules, linux_.modules());
    return os_modules(modules);
  }
  if (kind != "threads" && kind != "processes")
    return make_error("info os {}: there are processes, threads and modules", kind);
  DEJA_ASSIGN(const std::vector<GuestTask> tasks, linux_.tasks());
  return kind == "threads" ? os_threads(tasks) : os_processes(tasks);
}

Result<std::string> TimeTarget::help(const Command&) { return std::string(kHelp); }

Result<std::string> TimeTarget::when(const Command&) { return describe_moment(nav_, current_) + "\n"; }

Result<std::string> TimeTarget::seek_command(const Command& c) {
  if (c.words.size() < 2) return make_error("seek: where to? a step number, N%, -500ms, serial:\"text\"…");
  // Finding out may go anywhere.
  const Step here = nav_.position();
  const auto to = find_position(nav_, c.text.substr(c.text.find(c.words[1], c.words[0].size())), here);
  DEJA_TRY(seek(to ? to.value() : here));
  if (!to) return to.error();
  return when(c);
}

Result<std::string> TimeTarget::checkpoint(const Command&) {
  bookmarks_.push_back(nav_.position());
  return show("checkpoint {}: {}\n", bookmarks_.size(), describe_moment(nav_, current_));
}

Result<std::string> TimeTarget::checkpoints(const Command&) {
  std::string list;
  for (std::size_t i = 0; i < bookmarks_.size(); ++i)
    list += show("{}: step {}\n", i + 1, format_count(bookmarks_[i]));
  return list.empty() ? "no checkpoints; `checkpoint` makes one\n" : list;
}

Result<std::string> TimeTarget::restart_command(const Command& c) {
  const auto n = parse_number<std::size_t>(c.argument());
  if (!n || *n < 1 || *n > bookmarks_.size())
    return make_error("restart: there is no checkpoint '{}'; `monitor checkpoints` lists them", c.argument());
  DEJA_TRY(seek(bookmarks_[*n - 1]));
  return when(c);
}

Result<std::string> TimeTarget::who_wrote_command(const Command& c) {
  WhoWrote request;
  bool physical = false;
  std::string where;
  for (std::size_t i = 1; i < c.words.size(); ++i) {
    if (c.words[i] == "all")
      request.all = true;
    else if (c.words[i] == "phys")
      physical = true;
    else if (where.empty())
      where = c.words[i];
    else
      return make_error("who-wrote: '{}' is not understood; see monitor help", c.words[i]);
  }
  DEJA_ASSIGN(const MemoryRange range, parse_memory_range(where));
  DEJA_ASSIGN(request.pieces, locate(view(c.vcpu, physical), range.address, range.size));
  const Step here = nav_.position();
  request.at = here;
  request.interrupted = c.interrupted;
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

Result<std::string> TimeTarget::instructions(const Command& c) {
  const auto n = c.argument().empty() ? 1u : parse_number<unsigned>(c.argument());
  if (!n || *n < 1 || *n > 1000) return make_error("insn {}: how many? 1 to 1000", c.argument());
  const GuestView memory = view(c.vcpu);
  std::string text;
  u64 pc = linear_pc(machine().cpu(c.vcpu));
  for (unsigned i = 0; i < *n; ++i) {
    const GuestInsn insn = memory.instruction(pc);
    if (!insn.ok) return text + show("{:#x}: no instruction\n", pc);
    text += show("{:#x}: {}\n", pc, insn.text);
    pc += insn.insn.length;
  }
  return text;
}

Result<std::string> TimeTarget::images(const Command& c) { return list_images(guest_images(view(c.vcpu))); }

Result<std::string> TimeTarget::processes(const Command&) {
  DEJA_ASSIGN(const std::vector<GuestTask> tasks, linux_.tasks());
  return list_tasks(tasks);
}

Result<std::string> TimeTarget::modules(const Command& c) {
  DEJA_ASSIGN(const std::vector<GuestModule> modules, linux_.modules());
  return c.argument() == "sections" ? list_sections(modules) : list_modules(modules);
}

Result<std::string> TimeTarget::kernel_log(const Command&) {
  DEJA_ASSIGN(const std::vector<KernelMessage> messages, linux_.messages());
  return as_dmesg(messages);
}

Result<std::string> TimeTarget::kernel_place(const Command&) {
  const auto place = kernel_ ? find_kernel(machine(), *kernel_) : std::nullopt;
  return place ? show("{:#x}\n", place->slide) : "not set up at this moment\n";
}

Result<std::string> TimeTarget::process_command(const Command& c) {
  if (const auto pid = parse_number<u32>(c.argument())) return limit_to_process(*pid);
  if (c.argument() == "any") {
    process_.reset();
    return std::string("breakpoints in programs stop in every process\n");
  }
  if (c.argument() != "here") return make_error("process: here, any, or a PID; not '{}'", c.argument());
  process_ = machine().cpu(c.vcpu).cr3;
  return show("breakpoints in programs stop in the address space with CR3 {:#x} only\n", *process_);
}

Result<std::string> TimeTarget::interrupts_command(const Command& c) {
  if (c.argument() != "hide" && c.argument() != "show")
    return make_error("interrupts: hide or show; not '{}'", c.argument());
  hide_interrupts_ = c.argument() == "hide";
  return std::string();
}

TimeTarget::Answer TimeTarget::find_command(std::string_view name) {
  constexpr std::pair<std::string_view, Answer> kCommands[] = {
      {"help", &TimeTarget::help},
      {"when", &TimeTarget::when},
      {"seek", &TimeTarget::seek_command},
      {"checkpoint", &TimeTarget::checkpoint},
      {"checkpoints", &TimeTarget::checkpoints},
      {"restart", &TimeTarget::restart_command},
      {"who-wrote", &TimeTarget::who_wrote_command},
      {"insn", &TimeTarget::instructions},
      {"images", &TimeTarget::images},
      {"processes", &TimeTarget::processes},
      {"modules", &TimeTarget::modules},
      {"dmesg", &TimeTarget::kernel_log},
      {"kernel", &TimeTarget::kernel_place},
      {"process", &TimeTarget::process_command},
      {"interrupts", &TimeTarget::interrupts_command},
  };
  for (const auto& [known, answer] : kCommands)
    if (known == name) return answer;
  return nullptr;
}

Result<std::string> TimeTarget::command(const std::string& text, unsigned vcpu,
                                        const std::function<bool()>& interrupted) {
  const Command c{text, split(text), vcpu, interrupted};
  const Answer answer = find_command(c.words.empty() ? "help" : c.words[0]);
  if (!answer) return make_error("'{}' is not a command of deja's; monitor help lists them", text);
  return (this->*answer)(c);
}

}  // namespace deja
