// The seam between translated code and C++: entry, exits, and calls out of line.
#pragma once

#include "translate/emitter.h"
#include "translate/exec_context.h"
#include "translate/translator.h"

namespace deja {

// Called with the guest's registers saved in the context and the host's restored. `site` is what translated
// code left in ecx, `r9` its scratch register. Returns the host address to go on at, or 0 to leave the run.
using Handler = u64 (*)(ExecContext*, u64 site, u64 r9);

struct Handlers {
  Handler mem_slow, mem_commit, helper, link, far_link, dispatch, removed, expired, host_fault;
  Handler quick;                       // run_quick: the vector registers are still in the host's
  Handler quick_done;                  // after kQuickDispatch
  Handler quick_access, quick_commit;  // tried before mem_slow and mem_commit in the same way
  Handler quick_jump;                  // … before dispatch, when a jump has missed
};

struct Thunks {
  CodeTargets targets;
  void (*enter)(u64 code) = nullptr;  // runs translated code from `code` until a handler returns 0
  // The host's signal handler resumes here: a carried-over instruction raised SIGFPE or #GP;
  // context.host_fault_pc is set. Or at targets.expired, when the counter ran out at a block's head.
  u64 host_fault = 0;
};

// Emits all of them at `e`. Of `targets` the addresses of data are filled in, those of the code are not.
Thunks emit_thunks(Emitter& e, const CodeTargets& targets, const Handlers& handlers);

}  // namespace deja
