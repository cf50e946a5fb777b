// A guest's writes to a disk, in blocks of 4 KiB: a part of the machine's state, like RAM.
//
// A snapshot costs one pointer for each 2 MiB of disk: blocks never change, and tables of blocks are shared
// and copied when they are written while somebody else holds them. What is in the blocks is not all in memory
// (block_store.h).
#pragma once

#include <array>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/storage/block_image.h"
#include "devices/storage/block_store.h"

namespace deja {

class DiskOverlay {
 public:
  static constexpr u64 kBlockSize = StoredBlock::kSize;
  static constexpr u64 kGroupBlocks = 512;

  // Both outlive the overlay.
  explicit DiskOverlay(BlockImage& image, BlockStore& store = BlockStore::of_process());

  u64 size() const { return image_.size(); }
  // The disk as the guest sees it. On an error nothing has happened.
  Status read(u64 offset, std::span<u8> out);
  Status write(u64 offset, std::span<const u8> data);
  // The same as writing zeros, without a need for room: what was written there is given back, and what the
  // image has as zeros needs no block at all.
  Status write_zeros(u64 offset, u64 size);

  // Sum over the blocks written so far of XXH3(block, seed = its number): a function of content alone.
  u64 digest() const { return sum_; }
  u64 blocks_written() const { return blocks_written_; }

  // Everything written so far; kept alive by whoever holds it.
  struct Snapshot {
    std::vector<std::shared_ptr<const void>> groups;
    u64 digest = 0, blocks_written = 0;
  };
  Snapshot snapshot() const;
  // The snapshot is of this overlay, or of one over the same image.
  void restore(const Snapshot& snapshot);

  // Used where snapshots are kept elsewhere.
  using SharedBlock = std::shared_ptr<const StoredBlock>;
  struct NumberedBlock {
    u64 number = 0;  // on the disk
    SharedBlock block;
  };
  // The blocks of `now` that `before` does not have, or not with this content, in ascending order. A later
  // snapshot has every block of an earlier one. `before` may be a default-made one: nothing was written.
  static std::vector<NumberedBlock> changes(const Snapshot& before, const Snapshot& now);

  // A block on its way into a snapshot. Snapshots may share it.
  Result<SharedBlock> make_block(u64 number, const u8* bytes) const { return store_.make(number, bytes); }
  // The snapshot in which just these blocks were written. Each was made for the number it stands with here,
  // which is below block_count() and not given twice.
  Snapshot snapshot_of(std::span<const NumberedBlock> blocks) const;
  u64 block_count() const { return (image_.size() + kBlockSize - 1) / kBlockSize; }
  // Back to the image as it is.
  void clear();

 private:
  struct Group {
    std::array<SharedBlock, kGroupBlocks> blocks;
  };
  const StoredBlock* find(u64 block) const;
  Group& writable_group(u64 block);
  Status read_block(u64 block, StoredBlock::Bytes* out);
  // The content that `size` bytes at `offset`, in one block, give it.
  Result<NumberedBlock> merged(u64 offset, const u8* data, u64 size);
  // Blocks of zeros for those of the whole blocks from `first` to `end` that hold anything else.
  Status find_nonzero(u64 first, u64 end, std::vector<NumberedBlock>* out);
  void put(std::span<NumberedBlock> blocks);

  BlockImage& image_;
  BlockStore& store_;
  std::vector<std::shared_ptr<Group>> groups_;
  u64 sum_ = 0;
  u64 blocks_written_ = 0;
};

}  // namespace deja
