// Keeps the contents of written disk blocks: the first ones in memory, the others in scratch space on the
// host's disk, of which the host's kernel keeps in memory what is in use. All blocks of zeros, such as
// those that a guest has discarded, are one: however many there are, they take nothing.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "sandbox/scratch_file.h"

namespace deja {

class BlockStore;

// The content of a block of a disk. It never changes. Zeros may be the content of any number of blocks;
// anything else is that of the block with the number that it was made for.
class StoredBlock {
 public:
  static constexpr u64 kSize = 4096;
  using Bytes = std::array<u8, kSize>;

  // XXH3(content, seed = a number of the block's), for the block with that number: never 0.
  u64 hash(u64 number) const;
  bool is_zero() const { return !bytes_ && slot_ == 0; }
  // An error: the host cannot read its scratch space.
  Status read(Bytes* out) const;

  ~StoredBlock();
  StoredBlock(const StoredBlock&) = delete;

 private:
  friend class BlockStore;
  StoredBlock(BlockStore& store, u64 number, u64 hash) : store_(store), number_(number), hash_(hash) {}
  BlockStore& store_;
  const u64 number_;
  const u64 hash_;
  std::unique_ptr<Bytes> bytes_;  // else it is in scratch space, or zeros
  u32 slot_ = 0;                  // 0: not in scratch space
};

// Its blocks may be made, read and dropped by several threads.
class BlockStore {
 public:
  // The store of the process, for all its machines. Must be called before the sandbox is entered.
  static BlockStore& of_process();

  // Without scratch space all are kept in memory.
  BlockStore(u64 bytes_in_memory, std::optional<ScratchFile> scratch)
      : memory_blocks_(scratch ? bytes_in_memory / StoredBlock::kSize : ~u64{0}),
        scratch_(std::move(scratch)) {}

  // The content of the block with that number on its disk. An error: the host has no room.
  Result<std::shared_ptr<const StoredBlock>> make(u64 number, const u8* bytes);

  u64 scratch_bytes() const;  // in use

 private:
  friend class StoredBlock;

  const StoredBlock zeros_{*this, 0, 0};  // its number and hash are used by nobody
  mutable std::mutex mutex_;
  u64 memory_blocks_;  // number of blocks for which memory still has room
  std::optional<ScratchFile> scratch_;
  u32 slots_ = 0;          // number of slots in the file
  std::vector<u32> free_;  // slots that are free
};

}  // namespace deja
