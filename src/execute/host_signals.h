// Host signals that translated code raises: the counter's probe (SIGSEGV), and exceptions of carried-over
// instructions (SIGFPE for #DE, #MF, #XM; SIGSEGV for #GP of misaligned vector operands). Handlers run on an
// alternate stack, since the host's stack pointer holds the guest's.
#pragma once

#include "base/result.h"
#include "translate/exec_context.h"

namespace deja {

struct HostSignalMap {
  u64 code_begin, code_end;  // executable mapping of the code cache
  u64 probe_base;
  u64 expired, host_fault;  // thunks to resume at
  ExecContext* context;
};

Status install_host_signals();

// While in scope, this thread's faults inside [code_begin, code_end) are routed to the thunks.
class HostSignalScope {
 public:
  explicit HostSignalScope(const HostSignalMap& map);
  ~HostSignalScope();
  HostSignalScope(const HostSignalScope&) = delete;

 private:
  HostSignalMap map_;
};

}  // namespace deja
