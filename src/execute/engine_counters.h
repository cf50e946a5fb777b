// Counters for a person tuning the engine. None of them feeds back into execution, and none is part of a
// recording: another run of the same recording may count otherwise.
#pragma once

#include <array>

#include "decode/insn.h"

namespace deja {

// Why Engine::dispatch() ran.
enum class DispatchCause : u8 {
  start,       // Engine::run was called
  jump_miss,   // a jump found no target in the jump cache
  link,        // a direct jump inside its page ran for the first time
  expired,     // a block was longer than the steps left
  helper,      // an instruction in C++ ended its block
  memory,      // a slow access faulted, or dropped translations
  host_fault,  // #DE, #MF, #XM or #GP, found by the host CPU
  group,       // accesses that are checked together were not in one page of the TLB
  far_link,    // a direct jump to another page has no target in the view, yet or any more
};
inline constexpr unsigned kDispatchCauses = 9;
constexpr const char* to_string(DispatchCause cause) {
  constexpr std::array names{"start",  "jump-miss",  "link",  "expired", "helper",
                             "memory", "host-fault", "group", "far-link"};
  return names[static_cast<unsigned>(cause)];
}

struct EngineCounters {
  u64 blocks = 0, translated_insns = 0, translation_ns = 0, links = 0;
  u64 cache_flushes = 0;       // all translated code was dropped at once
  u64 cache_evictions = 0;     // the code cache was full: a region of it was dropped
  u64 evicted_blocks = 0;      // in these
  u64 code_invalidations = 0;  // stores into translated code
  std::array<u64, kDispatchCauses> dispatches{};
  u64 second_jumps = 0;  // jumps that found their target in the second way of the jump cache
  std::array<u64, ZYDIS_MNEMONIC_MAX_VALUE + 1> helpers{};  // instructions done in C++, by mnemonic
  u64 quick_done = 0;  // those that went the quick way (quick_ops.h); `helpers` has the others
  u64 quick_declined = 0;
  u64 digest_ns = 0;  // of the machine's digests
  u64 faults = 0;     // exceptions and interrupts delivered
  u64 interrupts = 0;
  // Memory accesses that the inline lookup did not settle, and why.
  u64 slow_accesses = 0;
  u64 tlb_fills = 0;       // the TLB had no entry
  u64 probe_faults = 0;    // lookups that missed by faulting (page_probe.h)
  u64 crossings = 0;       // two pages
  u64 mmio = 0;            // not RAM
  u64 tracked = 0;         // stores to code and to page tables
  u64 table_drops = 0;     // of these, those that changed an entry in use
  u64 space_recycles = 0;  // an address space took over another's tables

  u64 dispatch_sum() const {
    u64 sum = 0;
    for (const u64 n : dispatches) sum += n;
    return sum;
  }
  u64 helper_sum() const {
    u64 sum = 0;
    for (const u64 n : helpers) sum += n;
    return sum;
  }
};

}  // namespace deja
