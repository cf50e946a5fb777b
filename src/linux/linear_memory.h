// Memory by linear addresses, looked at from outside.
#pragma once

#include "execute/page_walk.h"
#include "machine/machine.h"

namespace deja {

// Reads `size` bytes at `linear` of an address space, whoever may access them. False: not all of them are
// mapped to RAM. Changes nothing in the machine.
bool read_linear(Machine& machine, const PagingKey& key, u64 linear, void* out, u64 size);

}  // namespace deja
