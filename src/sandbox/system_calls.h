// Limits the system calls that a process may make once it is confined: seccomp filters. Any other call fails
// with EPERM and does nothing.
#pragma once

#include "base/result.h"

namespace deja {

enum class Confined {
  // An engine runs a guest: no sockets, no programs, no other processes; files as far as they are allowed.
  recorder,  // that writes files
  replayer,  // that only reads files
  // Helpers.
  reader,   // computes: reads and writes descriptors that it has, nothing else
  keeper,   // and opens, makes, renames and removes files as far as they are allowed
  maker,    // and makes new files, which it writes
  network,  // and makes connections, and reads files as far as they are allowed
};

// Confines all threads of the process. Sets no_new_privs. An error: the host cannot do it.
Status filter_system_calls(Confined what);

}  // namespace deja
