// Host memory for translated code (code_memory.h), with the ExecContext right before the executable mapping;
// and the index from guest physical addresses to blocks.
//
// The cache is divided into regions, which are filled one after the other. When the last is full, the oldest
// is thrown away and filled anew: so what is dropped at a time is little, and found again soon if it is in
// use.
#pragma once

#include <array>
#include <vector>

#include "base/result.h"
#include "execute/cache/code_memory.h"
#include "guest/ram.h"
#include "translate/translator.h"

namespace deja {

class CodeCache {
 public:
  CodeCache(GuestRam& ram, u64 bytes);
  ~CodeCache();
  // Maps everything; the error says which limit was hit.
  Status init();

  ExecContext* context() const { return context_; }
  u8* write_base() const { return write_; }
  u64 bytes() const { return bytes_; }
  u64 exec_base() const { return reinterpret_cast<u64>(exec_); }
  u64 probe_base() const { return probe_; }

  CodeStore& store() { return store_; }
  Block& block(BlockId id) { return store_.blocks[id]; }

  // Where the next block goes: behind the last one of the region that is being filled.
  CodeSpace space() const { return space_in(current_); }
  void take(const Block& block);
  // The space is too small for a block: goes on to the next region. What was in it is gone, and this says
  // where: no jump cache may lead there any more.
  struct Evicted {
    unsigned region;
    u64 begin, end;  // host addresses of main code
    unsigned blocks;
  };
  Evicted next_region();
  // The first `bytes` are the thunks, which stay. Blocks that were removed lead to `removed`, one of them.
  void keep(u32 bytes, u64 removed);
  // What lies below this offset are thunks, and copies that give way to others.
  u32 kept() const { return kept_; }

  // The last memory site of the region whose inline code begins at or before this host address, or kNone.
  u32 site_before(u64 host_pc) const;
  // Makes the copies of a memory site's instruction, if it has none yet. They are there until the next
  // instruction is begun, and mostly for good.
  void make_special_copies(u32 site, Translator& translator);

  BlockId find(Gpa pc, BlockMode mode) const;
  // Makes a translated block findable and marks its pages as code. Returns whether a page became code only
  // now.
  void add(BlockId id);
  // Blocks with bytes in [at, at+size) become unreachable: who jumps there comes to the dispatcher. Returns
  // how many.
  unsigned invalidate(Gpa at, u64 size);
  // This block becomes unreachable.
  void remove(BlockId id);
  // The same for all blocks of BlockMode::kObserved.
  void remove_observed();
  void clear();

  // Lets the lookup of a memory site branch when it misses, and no longer fault; if there is room.
  void make_branching(u32 site, Translator& translator);
  // Lets the lookup of a group that misses lead to a block without groups, by a direct link; if there is
  // room.
  void make_leaving(u32 site, Translator& translator);
  // The same for the probe of the counter at a block's head.
  void let_check_branch(BlockId block);
  void set_link(u32 link, BlockId target);
  // The block whose code contains this host address, and the guest instruction it belongs to.
  bool locate(u64 host_pc, BlockId* block, unsigned* insn) const;

 private:
  struct Region {
    u32 hot = 0, cold = 0;  // where the next block goes
    u32 populated = 0;      // up to here main code has its pages
  };
  // An entry of the index, an open-addressed table. Free ones have kNone for an id. The tag spares a look at
  // most blocks that are not the one.
  struct Entry {
    u32 tag = 0;
    BlockId id = kNone;
  };

  CodeSpace space_in(unsigned region) const {
    const Region& r = regions_[region];
    return {write_,
            region,
            r.hot,
            r.cold,
            hot_begin(region) + hot_bytes_ - r.hot,
            cold_begin(region) + cold_bytes_ - r.cold};
  }
  u32 hot_begin(unsigned region) const { return region * hot_bytes_; }
  u32 cold_begin(unsigned region) const { return region_count_ * hot_bytes_ + region * cold_bytes_; }
  // A u32 offset in the code cache, from a host address that it holds.
  u32 offset_of(u64 host_pc) const { return static_cast<u32>(host_pc - exec_base()); }
  bool is_cold(u32 offset) const { return offset >= cold_begin(0); }
  void reset(unsigned region);
  void populate();  // more of the region that is being filled
  void patch32(u32 at, u32 value);
  void make_branch_to(MemSite& site, u32 stub);
  void unlink(u32 link);

  static u64 hash(u64 pc, u32 mode) { return (pc ^ u64{mode} << 32) * 0x9e3779b97f4a7c15u; }
  u64 hash(BlockId id) const { return hash(store_.blocks[id].pc.value, store_.blocks[id].mode.bits); }
  static u32 tag_of(u64 hash) { return static_cast<u32>(hash); }
  std::size_t slot_of(u64 hash) const { return hash >> index_shift_; }
  void insert(BlockId id);
  void erase(BlockId id);
  void resize_index(unsigned log2);
  void note_page(u64 frame, BlockId id);

  GuestRam& ram_;
  u64 bytes_;
  unsigned region_count_;
  u32 hot_bytes_, cold_bytes_;  // of a region
  CodeMemory memory_;
  ExecContext* context_ = nullptr;
  u8* write_ = nullptr;
  u8* exec_ = nullptr;
  u64 probe_ = 0;
  void* probe_map_ = nullptr;
  std::array<Region, kMaxRegions> regions_;
  unsigned current_ = 0;
  u32 kept_ = 0;
  u32 written_ = 0;  // bytes emitted since the writable mapping was last let go of
  CodeStore store_;
  std::vector<Entry> index_;
  unsigned index_shift_ = 0;  // 64 - log2 of its size
  std::size_t indexed_ = 0;
  u64 removed_ = 0;
  SpecialCopy makeshift_{};  // of an instruction whose region has no room for its copies
  std::vector<BlockId> observed_;
  u32* page_index_ = nullptr;  // per frame: index into pages_ plus one
  std::vector<std::vector<BlockId>> pages_;
  std::vector<u64> page_frames_;
};

}  // namespace deja
