// Host signals that translated code raises: the counter's probe (SIGSEGV), and exceptions of carried-over
// instructions (SIGFPE for #DE, #MF, #XM; SIGSEGV for #GP of misaligned vector operands). Handlers run on an
// alternate stack, since the host's stack pointer holds the guest's.
//
// A handler knows the engine by the host address that faulted: each engine of the process has a route, for
// the addresses of its code cache.
#pragma once

#include "base/result.h"
#include "translate/exec_context.h"

namespace deja {

struct HostSignalMap {
  u64 code_begin = 0, code_end = 0;  // executable mapping of the code cache
  u64 probe_base = 0;
  u64 expired = 0, host_fault = 0;  // thunks to resume at
  ExecContext* context = nullptr;
};

// For the whole process, once or again.
Status install_host_signals();
// For the calling thread, which is about to run translated code. Aborts when the host has no stack for it.
void prepare_signal_stack();

// While it exists, faults inside [code_begin, code_end) are routed to the map's thunks, on whichever thread
// they happen.
class HostSignalRoute {
 public:
  explicit HostSignalRoute(const HostSignalMap& map);
  ~HostSignalRoute();
  HostSignalRoute(const HostSignalRoute&) = delete;

 private:
  struct Route* route_;
};

}  // namespace deja
