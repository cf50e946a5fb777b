// The XML documents that gdb reads in pieces (qXfer), but for the description of the registers (registers.h).
#pragma once

#include <string>
#include <string_view>

#include "gdb/target.h"

namespace deja {

// The first `count` vCPUs as threads.
std::string threads_document(DebugTarget& target, unsigned count);
// A table of `info os`; `kind` empty: os_kinds().
std::string os_document(std::string_view kind, const GdbOsTable& table);
// What `info os` can be asked for.
GdbOsTable os_kinds();
std::string_view memory_map_document();

}  // namespace deja
