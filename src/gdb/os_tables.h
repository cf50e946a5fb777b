// What `info os` shows of a Linux guest. Columns have the names of gdb's own tables where it has such, which
// front ends understand.
#pragma once

#include "gdb/target.h"
#include "linux/modules.h"
#include "linux/tasks.h"

namespace deja {

GdbOsTable os_processes(const std::vector<GuestTask>& tasks);
GdbOsTable os_threads(const std::vector<GuestTask>& tasks);
GdbOsTable os_modules(const std::vector<GuestModule>& modules);

}  // namespace deja
