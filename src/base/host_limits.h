// What the host limits a process to (ulimit, setrlimit(2)), in words for those who have to raise it.
#pragma once

#include <string>

#include "base/result.h"

namespace deja {

// To be called first in a process. A file that may not grow is then an error of the write, not a signal that
// ends the process; and where few descriptors or little stack are allowed, it takes as much as it may have.
// An error: the stack is too small for anything.
Status use_host_limits();

// To be called before anything is opened. Where the process was started without one of its descriptors 0 to
// 2, as with `2>&-`, makes it /dev/null: the next file would get the number, and messages would be written
// into it. An error: /dev/null cannot be opened.
Status open_standard_descriptors();

// strerror() of what a system call failed with, and the limit that may be the reason: its figure, and the
// option of `ulimit` that raises it.
std::string host_error(int error);

// That there is no memory: host_error(ENOMEM) after what it was for.
std::string out_of_memory(const std::string& what);

}  // namespace deja
