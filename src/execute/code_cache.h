// Host memory for translated code: one memfd mapped twice, writable and executable, with the ExecContext
// right before the executable mapping; and the index from guest physical addresses to blocks.
#pragma once

#include <vector>

#include "base/result.h"
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
  u64 exec_base() const { return reinterpret_cast<u64>(exec_); }
  u64 probe_base() const { return probe_; }
  bool executes(u64 host_pc) const { return host_pc - exec_base() < bytes_; }

  CodeStore& store() { return store_; }
  Block& block(BlockId id) { return store_.blocks[id]; }

  // Two bump allocators: main code in the first half, cold code in the second.
  CodeSpace space() const { return {write_, hot_, cold_, bytes_ / 2 - hot_, bytes_ - cold_}; }
  void take(const Block& block);
  // The first `bytes` survive clear(): the thunks. Blocks that were removed lead to `dispatch`, one of them.
  void keep(u32 bytes, u64 dispatch) { hot_ = kept_ = bytes, dispatch_ = dispatch; }

  // The last memory site whose inline code begins at or before this host address, or kNone.
  u32 site_before(u64 host_pc) const;

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

  // Lets the lookup of a memory site branch when it misses, and no longer fault.
  void make_branching(MemSite& site);
  void set_link(u32 link, BlockId target);
  // The block whose code contains this host address, and the guest instruction it belongs to.
  bool locate(u64 host_pc, BlockId* block, unsigned* insn) const;

 private:
  void patch32(u32 at, u32 value);
  static u64 hash(Gpa pc, BlockMode mode) {
    return (pc.value ^ (u64{mode.bits} << 32)) * 0x9e3779b97f4a7c15u >> 46;
  }

  GuestRam& ram_;
  u64 bytes_;
  int fd_ = -1;
  u8* region_ = nullptr;  // context, then exec mapping
  u64 region_bytes_ = 0;
  ExecContext* context_ = nullptr;
  u8* write_ = nullptr;
  u8* exec_ = nullptr;
  u64 probe_ = 0;
  void* probe_map_ = nullptr;
  u32 hot_ = 0, cold_ = 0, kept_ = 0;
  u32 written_ = 0;  // bytes emitted since the writable mapping was last let go of
  CodeStore store_;
  std::vector<BlockId> buckets_;
  struct Key {
    u64 pc = 0;
    u32 mode = 0;
    BlockId next = kNone;  // in its bucket
  };
  std::vector<Key> chain_;  // by block id
  u64 dispatch_ = 0;
  std::vector<BlockId> observed_;
  u32* page_index_ = nullptr;  // per frame: index into pages_ plus one
  std::vector<std::vector<BlockId>> pages_;
  std::vector<u64> page_frames_;
};

}  // namespace deja
