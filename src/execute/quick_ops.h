// The quick way of system instructions (translate/quick.h says which): C++ that is called with only the
// general registers saved. It must not touch vector registers, throw, or call anything outside its file
// (quick_ops.cc, quick_access.cc), which is compiled for general registers alone; a test checks that it needs
// no other symbol. What an instruction does, once nothing can fault, is said in semantics/pure_ops.h.
//
// A quick operation knows the common case. Whatever may fault, trap, be interrupted, touch a device, miss the
// TLB or need a translation that is not there yet is left to the ordinary way, which then finds the state as
// it was before the instruction.
#pragma once

#include "translate/block.h"
#include "translate/exec_context.h"

namespace deja {

// What a quick operation asks of its caller, besides a host address to go on at.
inline constexpr u64 kQuickDeclined = 0;  // nothing has changed: run the instruction's ordinary helper
inline constexpr u64 kQuickDispatch = 1;  // done, RIP and counter are those after it: dispatch

// Handlers (thunks.h).
u64 run_quick(ExecContext* context, u64 site, u64);

// The quick way of memory sites (Engine::mem_slow, Engine::mem_commit): an operand that crosses the end of a
// page, when the TLB has both pages, is taken to the bounce buffer and back. kQuickDeclined for all else.
u64 run_quick_access(ExecContext* context, u64 site, u64 address);
u64 run_quick_commit(ExecContext* context, u64 site, u64);

// A jump to `pc` that is not in the first way of its slot of the jump cache: returns where it leads if it is
// in the second, or kQuickDeclined.
u64 run_quick_jump(ExecContext* context, u64 site, u64 pc);

}  // namespace deja
