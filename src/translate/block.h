// What the translator records about the code it made, so that execute/ can get from any host address, exit or
// slow path back to exact guest state.
#pragma once

#include <array>
#include <vector>

#include "decode/insn.h"
#include "guest/fault.h"
#include "semantics/vcpu.h"
#include "translate/form.h"
#include "translate/mode.h"
#include "translate/quick.h"

namespace deja {

// Blocks, sites and what belongs to them are numbered within the region of the code cache that their code is
// in (execute/cache/code_cache.h), which stands in the number's top byte: a region is thrown away as a whole.
using BlockId = u32;
inline constexpr u32 kNone = ~u32{0};
inline constexpr unsigned kMaxRegions = 16;
inline constexpr unsigned kRegionShift = 24;

template <class T>
class RegionPool {
 public:
  T& operator[](u32 id) { return part_[id >> kRegionShift][id & kIndex]; }
  const T& operator[](u32 id) const { return part_[id >> kRegionShift][id & kIndex]; }
  // The number that the next one in this region gets.
  u32 next(unsigned region) const { return region << kRegionShift | static_cast<u32>(part_[region].size()); }
  u32 add(unsigned region, const T& value) {
    const u32 id = next(region);
    part_[region].push_back(value);
    return id;
  }
  // Whether so many more of this region can be numbered.
  bool has_room(unsigned region, std::size_t more) const { return part_[region].size() + more <= kIndex; }
  bool has(u32 id) const {
    return id >> kRegionShift < kMaxRegions && (id & kIndex) < part_[id >> kRegionShift].size();
  }
  std::vector<T>& in(unsigned region) { return part_[region]; }
  const std::vector<T>& in(unsigned region) const { return part_[region]; }

 private:
  static constexpr u32 kIndex = (u32{1} << kRegionShift) - 1;
  std::array<std::vector<T>, kMaxRegions> part_;
};

// The place of an instruction in the guest's page, and of its main code in its block's.
struct InsnPlace {
  u16 offset;
  u16 host;  // from the far entry
};

struct alignas(64) Block {
  Gpa pc;                     // physical address of the first instruction
  Gpa second_page = kNoPage;  // when the only instruction crosses into another physical page
  BlockMode mode;             // with limit
  // Offsets in the code cache. What is seldom run stands apart, so that it takes no room in the host's
  // caches.
  u32 far_entry = 0, near_entry = 0, end = 0;
  u32 cold_begin = 0, cold_end = 0;
  u32 first_place = 0;   // in CodeStore::places: one for each instruction, and one for the block's end
  u32 first_byte = 0;    // in CodeStore::bytes: the guest's code
  u32 incoming = kNone;  // the first of the link sites that jump to the near entry
  u16 count = 0;         // instructions
  u16 bytes = 0;         // guest bytes covered
  bool valid = true;
  bool small_loop = false;      // jumps back to its own start, and could be unrolled (unroll.h)
  bool check_branches = false;  // its head branches where the probe of the counter would fault
  bool vectors = false;         // has instructions for which it loads the vector registers when they are away
  // Its steps are taken off the counter part by part, each of which ends with a conditional jump that the
  // block goes on behind: whoever leaves there has nothing to give back. Index of the instruction behind each
  // such jump; 0: no more.
  u8 parts[kMaxJumpsPassed] = {};

  bool crosses() const { return second_page != kNoPage; }
  // The head takes the steps of the first part only, and after its probe.
  bool in_parts() const { return parts[0] != 0; }
  // When this instruction is executed, the steps of so many are off the counter that have yet to complete,
  // itself the first of them.
  unsigned prepaid(unsigned insn) const {
    for (const unsigned end : parts)
      if (insn < end) return end - insn;
    return count - insn;
  }
  // Steps of later parts, which the block takes off the counter without looking whether they are there: its
  // head has. Whoever spends further steps at this instruction leaves so many.
  unsigned reserved(unsigned insn) const { return count - insn - prepaid(insn); }
  unsigned page_offset() const { return static_cast<unsigned>(pc.offset()); }
};
static_assert(sizeof(Block) == 64, "a line of the host's cache");

// What guest RIP becomes when the instruction of a memory site completes (the run may stop there).
enum class AfterSite : u8 { next_insn, direct_target, branch_target, resume_only };

// A memory access of translated code: the slow path's description. There is one for each lookup, so size
// counts.
struct alignas(64) MemSite {
  BlockId block;
  u16 insn;
  u8 nth;  // of the instruction's accesses
  u8 size;
  bool read : 1, write : 1;
  bool checked : 1;    // not inline: segment, alignment or breakpoint checks in C++; r9 is a segment offset
  bool waits_fpu : 1;  // a pending x87 exception comes before the access
  bool mmx_store : 1;  // even when the access faults, TOP is 0 afterwards, though the tags stay
  bool converts : 1;   // VCVTPS2PH: MXCSR has the conversion's flags even when the store faults
  bool x87_store : 1;  // an unmasked exception suppresses the store, and with it its faults
  bool group_writes : 1;  // see `span`
  u8 segment;
  u8 align;  // 16 or 32: #GP(0) unless the address is a multiple (MOVAPS and kin); else 0
  AfterSite after;
  // First of a group: [r9 - before, r9 - before + span) is looked up, for writing if group_writes. 0: no
  // group.
  u16 span;
  i16 before;
  i32 target;      // direct_target: relative to the current page
  u64 first_miss;  // step of the first of `misses`
  u32 misses;      // times that a group's lookup failed
  u8 faults;       // times that the probe failed
  u8 base;         // the guest register whose value is looked up; kNoBase: r9 has it
  static constexpr u8 kNoBase = 0xff;
  u32 hot;     // offset in the code cache of the inline lookup
  u32 check;   // of its end, which tells whether it has missed
  u32 probe;   // the same where that is a load that faults; 0: it branches
  u32 resume;  // where the instruction goes on after its access
  // The copy that works on a bounce buffer, which is made when it is needed first (0: not yet); and where the
  // slow path goes on behind it when the instruction has more to do (resume_only).
  u32 special, special_resume;
};
static_assert(sizeof(MemSite) == 64, "a line of the host's cache");

// An instruction done in C++.
struct HelperSite {
  BlockId block;
  u16 insn;
  bool ends_block;
  QuickOp quick = QuickOp::none;  // is tried first
  u8 raise = kNoVector;           // instead of executing, raise this vector (kUD, kNM, kGP with error 0)
  u32 resume = 0;
  Insn decoded;
  Helper helper;  // found by execute/ at the first call
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
  u32 patch;           // offset of the rel32
  u32 stub;            // offset of the stub it points to while unlinked
  u16 target;          // page offset of the target
  bool plain = false;  // to a block without groups (BlockMode::kPlain)
  u8 turns = 0;        // of a small loop, before it is unrolled
  BlockId linked = kNone;
  u32 previous = kNone, next = kNone;  // among those that lead to the same block
};

// A direct jump that leaves its page. Where the target is depends on the address space, so that it has a slot
// in each view of each (ViewTables::far_link), numbered by region.
struct FarLink {
  BlockId block;
  u32 branch = kNone;  // branch site, when the target can lie outside the canonical addresses
};
inline constexpr u32 kFarLinksPerRegion = kFarLinks / kMaxRegions;
constexpr u32 far_link_slot(u32 id) {
  return (id >> kRegionShift) * kFarLinksPerRegion + (id & ((u32{1} << kRegionShift) - 1));
}

// The copy of an instruction that works on a bounce buffer: host code apart from its block's.
struct SpecialCopy {
  u32 begin, end;  // offsets in the code cache
  BlockId block;
  u16 insn;
};

struct CodeStore {
  RegionPool<Block> blocks;
  RegionPool<InsnPlace> places;
  RegionPool<u8> bytes;
  RegionPool<MemSite> mem_sites;
  RegionPool<HelperSite> helper_sites;
  RegionPool<LinkSite> link_sites;
  RegionPool<BranchSite> branch_sites;
  RegionPool<FarLink> far_links;
  RegionPool<SpecialCopy> special_copies;

  // Where an instruction of the block, or (insn == count) its end, is in the guest's page.
  u16 page_offset(const Block& b, unsigned insn) const { return places[b.first_place + insn].offset; }
  void clear(unsigned region) {
    blocks.in(region).clear();
    places.in(region).clear();
    bytes.in(region).clear();
    mem_sites.in(region).clear();
    helper_sites.in(region).clear();
    link_sites.in(region).clear();
    branch_sites.in(region).clear();
    far_links.in(region).clear();
    special_copies.in(region).clear();
  }
};

}  // namespace deja
