// What of gdb's breakpoints and watchpoints can be judged from a machine alone: on whichever machine of a
// recording it happens, and on any thread.
#pragma once

#include <vector>

#include "gdb/target.h"
#include "machine/machine.h"
#include "query/who_wrote.h"
#include "timeline/hit_filter.h"

namespace deja {

// A watchpoint is on the memory that stood behind its address when it was set, in whatever address space the
// vCPUs are later.
struct PinnedWatchpoint {
  GdbWatchpoint watchpoint;
  std::vector<MemoryPiece> pieces;  // none: the address was not mapped
  u64 cr3 = 0;
};

inline bool is_kernel_half(u64 address) { return address >= kUserEnd; }

GdbCpu gdb_cpu(Machine& machine, unsigned vcpu);

// GuestView::read_some, but a watched address of a program means the same memory as long as it is watched.
std::size_t read_pinned(const GuestView& memory, const std::vector<PinnedWatchpoint>& pins, u64 address,
                        void* out, std::size_t size);

struct StopConditions {
  std::vector<GdbBreakpoint> breakpoints;  // as Hit::index numbers them; what has a larger one is not gdb's
  std::vector<PinnedWatchpoint> pins;

  // Whether the hit, at which `machine` stands, is one that gdb is to be told of.
  bool hold(Machine& machine, const Hit& hit) const;

  // hold() as a value, for other machines of the recording.
  HitFilter filter() const;

  // What gdb calls a watched byte; the watchpoint's address when it was not mapped as that was set.
  u64 address_of(const GdbWatchpoint& watchpoint, Gpa byte) const;
};

}  // namespace deja
