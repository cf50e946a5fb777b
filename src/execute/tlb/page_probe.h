// A byte before a wide stretch of addresses that cannot be read: a TLB lookup that misses faults there, and
// costs no branch (Translator::emit_lookup).
#pragma once

#include "base/types.h"

namespace deja {

// Its address, below 2 GiB; 0 when the address space has no room. One for all engines of the process.
u64 page_probe();

}  // namespace deja
