// What a debugger wants to be told of while the guest runs, and what has happened of it.
//
// Nothing here is visible to the guest. A code breakpoint cuts the blocks of its page, which chaos mode does
// everywhere; a page with watched bytes is withheld from the inline TLB, so that accesses to it take the slow
// path, which compares ranges. Everything else runs as fast as ever. The guest's own debug registers have no
// part in it.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "guest/page_walk.h"
#include "guest/ram.h"

namespace deja {

// Stops before the instruction at linear address `pc`, each time it is about to run. As with the CPU's own
// instruction breakpoints RFLAGS.RF suppresses it: an instruction that is restarted after a page fault, or
// goes on with the next piece of a REP, has been seen already.
struct CodeBreakpoint {
  u64 pc = 0;
  std::optional<u64> cr3;  // only in the address space with this table (low 12 bits ignored)
  bool restarts = false;   // whatever RF is
  bool operator==(const CodeBreakpoint&) const = default;
};

// Stops after the step that accessed one of the bytes [address, address + size).
struct Watchpoint {
  enum : u8 { kWrite = 1, kRead = 2 };
  u8 kinds = kWrite;
  // Writes that leave the watched bytes as they were do not count.
  bool changes_only = false;
  // Physical: sees every writer, whichever way it goes there, devices included. Linear: follows the page
  // tables, so it watches what stands behind the address at the time, from the first access through it on.
  bool physical = true;
  u64 address = 0, size = 0;
  std::optional<u64> cr3;  // linear: whose address; none: everybody's
  bool operator==(const Watchpoint&) const = default;
};

struct ObservationSpec {
  std::vector<CodeBreakpoint> breakpoints;
  std::vector<Watchpoint> watchpoints;
  // Stops after an exception or interrupt was delivered at the instruction at this linear address.
  std::optional<u64> delivery_at;
  // Stops when this vCPU's turn comes, or comes again: its instruction is the next.
  std::optional<unsigned> turn_of;
  // Nothing stops before the instruction of this step: that is where the debugger stands and goes on from.
  Step skip_at = kNeverStep;
  bool operator==(const ObservationSpec&) const = default;
};

// On whose behalf memory was accessed.
enum class AccessCause : u8 {
  instruction,
  page_walk,   // accessed and dirty bits of paging structures
  delivery,    // the stack frame of an exception or interrupt
  descriptor,  // accessed and busy bits of segment descriptors
  task_state,  // the TSS, in task switches
  device,      // DMA
  loader,      // the boot loader, at a reset
};

struct Hit {
  enum class Kind : u8 { breakpoint, turn, delivery, write, read } kind = Kind::breakpoint;
  unsigned index = 0;            // in ObservationSpec::breakpoints or watchpoints
  std::optional<unsigned> vcpu;  // none: a device
  AccessCause cause = AccessCause::instruction;
  u64 rip = 0, rsp = 0, cr3 = 0;  // of the instruction that was in progress, or about to run
  // The first step at which the state includes it; for breakpoints and turns the step that it stopped at.
  Step step = 0;
  Gpa at;                       // the watched bytes that were accessed
  std::vector<u8> before, now;  // of a write: of the same length
};

class Observation {
 public:
  explicit Observation(GuestRam& ram) : ram_(ram) {}

  // Replaces what is observed, looks at the watched bytes anew, and forgets hits. Through Engine::observe.
  // The same linear watchpoints stay where they were found to be.
  void set(ObservationSpec spec);
  const ObservationSpec& spec() const { return spec_; }
  void skip_at(Step step) { spec_.skip_at = step; }

  // Hits since the last take(). The machine does not go on while there are any.
  bool pending() const { return !hits_.empty(); }
  std::vector<Hit> take() { return std::exchange(hits_, {}); }

  // Is there anything to look out for, or to be told?
  bool active() const {
    return pending() || !spec_.breakpoints.empty() || !spec_.watchpoints.empty() || spec_.delivery_at ||
           spec_.turn_of;
  }

  // --- breakpoints, for Engine::dispatch
  bool breaks_in_page_of(Gva pc) const;
  // Page offsets of all breakpoints, ascending: blocks of pages with breakpoints end before them.
  const std::vector<u16>& cuts() const { return cuts_; }
  bool is_cut(Gva pc) const;
  // Notes a hit and returns true when a breakpoint stands there.
  bool hit_breakpoint(Gva pc, const CpuState& s, Step at);
  // The same for deliveries that are about to be, and for turns, for Machine::run.
  bool hit_delivery(Gva pc, const CpuState& s, Step after);
  bool hit_turn(const CpuState& s, Step at);

  // --- watchpoints, for those who access memory
  bool follows_linear() const { return follows_linear_; }
  // A data access to `linear` goes to `page`. True: some frame is watched only now, and whatever TLBs know of
  // it must go.
  bool translated(const PagingKey& key, Gva linear, Gpa page);
  bool overlaps(Gpa at, u64 size) const;
  // [at, at + size) was read, or has just been written. Returns whether that is a hit.
  // `cpu`: whose instruction is in progress; null: a device acts.
  bool accessed(Gpa at, u64 size, bool write, AccessCause cause, const CpuState* cpu, Step after);

 private:
  // A piece of a watchpoint in physical memory; none is bound for linear addresses not accessed so far.
  struct Range {
    unsigned index;
    Gva linear;  // of the first byte, when the watchpoint is linear
    std::optional<Gpa> at;
    u64 size;
    std::vector<u8> bytes;  // as last seen, to tell what a write changed
  };
  void lay_out_ranges();
  void look_at(Range& r) const;
  void flag_pages();
  static Hit by_cpu(Hit::Kind kind, const CpuState& s, Step step);

  GuestRam& ram_;
  ObservationSpec spec_;
  std::vector<u64> break_pages_;  // sorted
  std::vector<u16> cuts_;
  std::vector<Range> ranges_;
  bool follows_linear_ = false;
  std::vector<u64> flagged_;  // frames with kWatched or kReadWatched
  std::vector<Hit> hits_;
};

}  // namespace deja
