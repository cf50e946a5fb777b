#include "linux/listings.h"

#include "base/printable.h"

namespace deja {
namespace {

std::string_view or_dash(std::string_view text) { return text.empty() ? "-" : text; }

}  // namespace

std::string list_tasks(const std::vector<GuestTask>& tasks) {
  std::string text = show("{:>8} {:>8} {:<16} {}\n", "PID", "PROCESS", "NAME", "CR3");
  for (const GuestTask& t : tasks)
    text += show("{:>8} {:>8} {:<16} {}\n", t.pid, t.process, t.name, t.cr3 ? show("{:#x}", *t.cr3) : "-");
  return text;
}

std::string list_modules(const std::vector<GuestModule>& modules) {
  std::string text = show("{:<18} {:<24} {:>8} {:>5} {}\n", "ADDRESS", "NAME", "SIZE", "USERS", "USED BY");
  for (const GuestModule& m : modules)
    text += show("{:#018x} {:<24} {:>8} {:>5} {}\n", m.base, m.name, m.size, m.users, joined(m.used_by));
  return text;
}

std::string list_sections(const std::vector<GuestModule>& modules) {
  std::string text;
  for (const GuestModule& m : modules) {
    text += show("{} {}", m.name, or_dash(m.build_id));
    for (const auto& [name, address] : m.sections) text += show(" {}={:#x}", name, address);
    text += '\n';
  }
  return text;
}

std::string list_images(const std::vector<GuestImage>& images) {
  std::string text;
  for (const GuestImage& i : images) text += show("{:#x} {:#x} {}\n", i.base, i.lowest, or_dash(i.build_id));
  return text;
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ",") + printable(name);
  return list;
}

}  // namespace deja
