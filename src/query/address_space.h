// The address space that a question is about, in the words of users.
#pragma once

#include <string_view>

#include "timeline/guest_view.h"
#include "timeline/navigator.h"

namespace deja {

// `as`: the PID of a process or thread, "kernel", "phys", or "cr3:HEX" for the address space with that page
// table, each at the present moment; empty: of what runs then. `address`: the one that is asked about, which
// need not be a kernel's.
Result<GuestView> view_as(Navigator& nav, std::string_view as, u64 address);

}  // namespace deja
