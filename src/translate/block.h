// What the translator records about the code it made, so that execute/ can get from any host address, exit or
// slow path back to exact guest state.
#pragma once

#include <vector>

#include "decode/insn.h"
#include "guest/fault.h"
#include "translate/mode.h"
#include "translate/quick.h"

namespace deja {

using BlockId = u32;
inline constexpr u32 kNone = ~u32{0};

// A place in the host code from which on (up to the next mark) the code belongs to guest instruction `insn`.
struct Mark {
  u32 host_offset;  // from the start of the code cache
  u16 insn;
};

struct Block {
  Gpa pc;          // physical address of the first instruction
  BlockMode mode;  // with limit
  u16 count = 0;   // instructions
  u16 bytes = 0;   // guest bytes covered
  bool valid = true;
  bool vectors = false;      // has instructions for which it loads the vector registers when they are away
  Gpa second_page{~u64{0}};  // when the only instruction crosses into another physical page
  // Offsets in the code cache. What is seldom run stands apart, so that it takes no room in the host's
  // caches.
  u32 far_entry = 0, near_entry = 0, end = 0;
  u32 cold_begin = 0, cold_end = 0;
  std::vector<u16> insn_offset;  // from the page start; one more than count: the end
  std::vector<Mark> marks;       // ascending host_offset: first the main code's, then the cold code's
  std::vector<u32> incoming;     // link sites that jump to the near entry
  unsigned page_offset() const { return static_cast<unsigned>(pc.offset()); }
};

// What guest RIP becomes when the instruction of a memory site completes (the run may stop there).
enum class AfterSite : u8 { next_insn, direct_target, branch_target, resume_only };

// A memory access of translated code: the slow path's description.
struct MemSite {
  BlockId block;
  u16 insn;
  u8 size;
  bool read, write;
  bool checked;  // not inline: segment, alignment or breakpoint checks in C++; r9 is a segment offset
  u8 segment;
  u8 align;                // 16 or 32: #GP(0) unless the address is a multiple (MOVAPS and kin); else 0
  bool waits_fpu = false;  // a pending x87 exception comes before the access
  bool mmx_store = false;  // even when the access faults, TOP is 0 afterwards, though the tags stay
  bool converts = false;   // VCVTPS2PH: MXCSR has the conversion's flags even when the store faults
  bool x87_store = false;  // an unmasked exception suppresses the store, and with it its faults
  AfterSite after;
  i32 target = 0;  // direct_target: relative to the current page
  // First of a group: [r9 - before, r9 - before + span) is looked up, for writing if group_writes. 0: no
  // group.
  u16 span = 0;
  i16 before = 0;
  bool group_writes = false;
  u8 base = 0xff;      // the guest register whose value is looked up; 0xff: r9 has it
  u8 faults = 0;       // times that the probe failed
  u32 misses = 0;      // times that a group's lookup failed
  u64 first_miss = 0;  // step of the first of these
  u32 hot = 0;         // offset in the code cache of the inline lookup
  u32 probe = 0;       // of the load that faults when the lookup misses; 0: it branches
  u32 miss = 0;        // of the out-of-line call of the slow path
  u32 special = 0;     // offset of the out-of-line copy that works on a bounce buffer
  u32 resume = 0;      // where that copy goes on afterwards
};

// An instruction done in C++.
struct HelperSite {
  BlockId block;
  u16 insn;
  bool ends_block;
  QuickOp quick = QuickOp::none;  // is tried first
  u8 raise = 0xff;                // instead of executing, raise this vector (kUD, kNM, kGP with error 0)
  u32 resume = 0;
  Insn decoded;
  void* function = nullptr;  // resolved by execute/ at the first call
};

// An indirect or far-reaching jump, for a target that turns out not to be canonical: #GP(0) at the branch.
struct BranchSite {
  BlockId block;
  u16 insn;
  i32 popped = 0;  // by how much RSP has moved up already
  u16 rest = 0;    // instructions behind it whose steps the exit has given back already
};

// A direct jump inside a page.
struct LinkSite {
  BlockId block;
  u32 patch;   // offset of the rel32
  u32 stub;    // offset of the stub it points to while unlinked
  u16 target;  // page offset of the target
  BlockId linked = kNone;
};

struct CodeStore {
  std::vector<Block> blocks;
  std::vector<MemSite> mem_sites;
  std::vector<HelperSite> helper_sites;
  std::vector<LinkSite> link_sites;
  std::vector<BranchSite> branch_sites;
  void clear() {
    blocks.clear();
    mem_sites.clear();
    helper_sites.clear();
    link_sites.clear();
    branch_sites.clear();
  }
};

}  // namespace deja
