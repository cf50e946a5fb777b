// Names for translated code in the profiles of Linux's perf.
#pragma once

#include <string>

#include "translate/block.h"

namespace deja {

// A line for each stretch of code: host address and size in hexadecimal, and what it is:
// "user:1a2b3c0" or "kernel:1a2b3c0", the guest physical address of the block's first instruction, with
// ".cold" for its slow paths; "thunks" for the calls of C++.
std::string perf_map_text(const CodeStore& store, u64 cache_exec);
// /tmp/perf-PID.map, where perf looks.
std::string perf_map_path();
// Into that file. A failure is logged.
void write_perf_map(const std::string& text);

}  // namespace deja
