#include "gdb/os_tables.h"

#include "base/printable.h"
#include "linux/listings.h"

namespace deja {
namespace {

std::string cpu_of(const GuestTask& t) { return t.cpu ? std::to_string(*t.cpu) : "-"; }

}  // namespace

GdbOsTable os_processes(const std::vector<GuestTask>& tasks) {
  GdbOsTable table{{"pid", "user", "command", "cores", "page table"}, {}};
  for (const GuestTask& t : tasks)
    if (t.pid == t.process)
      table.rows.push_back({std::to_string(t.pid), std::to_string(t.user), t.name, cpu_of(t),
                            t.cr3 ? show("{:#x}", *t.cr3) : "-"});
  return table;
}

GdbOsTable os_threads(const std::vector<GuestTask>& tasks) {
  GdbOsTable table{{"pid", "command", "tid", "core"}, {}};
  for (const GuestTask& t : tasks)
    table.rows.push_back({std::to_string(t.process), t.name, std::to_string(t.pid), cpu_of(t)});
  return table;
}

GdbOsTable os_modules(const std::vector<GuestModule>& modules) {
  GdbOsTable table{{"name", "size", "num uses", "dependencies", "status", "address"}, {}};
  for (const GuestModule& m : modules)
    table.rows.push_back({m.name, std::to_string(m.size), std::to_string(m.users),
                          m.used_by.empty() ? "-" : joined(m.used_by), m.state, show("{:#x}", m.base)});
  return table;
}

}  // namespace deja
