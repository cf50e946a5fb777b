// What a guest has written to a disk, in blocks of 4 KiB: a part of the machine's state, like RAM.
//
// A snapshot costs one pointer for each 2 MiB of disk: blocks and tables of blocks are shared, and copied
// when they are written while somebody else holds them.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/block_image.h"

namespace deja {

class DiskOverlay {
 public:
  static constexpr u64 kBlockSize = 4096;
  static constexpr u64 kGroupBlocks = 512;

  // `image` outlives the overlay.
  explicit DiskOverlay(BlockImage& image);

  u64 size() const { return image_.size(); }
  // The disk as the guest sees it. On an error nothing has happened.
  Status read(u64 offset, std::span<u8> out);
  Status write(u64 offset, std::span<const u8> data);

  // Sum over the blocks written so far of XXH3(block, seed = its number): a function of content alone. Hashes
  // only blocks written since the last call.
  u64 digest();
  u64 blocks_written() const { return blocks_written_; }

  // Everything written so far; kept alive by whoever holds it.
  struct Snapshot {
    std::vector<std::shared_ptr<const void>> groups;
    u64 digest = 0, blocks_written = 0;
  };
  Snapshot snapshot();
  // Of this overlay, or of one over the same image.
  void restore(const Snapshot& snapshot);

  // For whoever keeps snapshots elsewhere: a block by its number on the disk, with its content.
  struct NumberedBlock {
    u64 number = 0;
    const u8* bytes = nullptr;  // kBlockSize of them, as long as its snapshot lives
  };
  // The blocks of `now` that `before` does not have, or not with this content, in ascending order. A later
  // snapshot has every block of an earlier one. `before` may be a default-made one: nothing was written.
  static std::vector<NumberedBlock> changes(const Snapshot& before, const Snapshot& now);

  // A block on its way into a snapshot. Snapshots may share it.
  using SharedBlock = std::shared_ptr<const void>;
  static SharedBlock make_block(u64 number, const u8* bytes);
  // The snapshot in which just these blocks were written. Each was made for the number it stands with here,
  // which is below block_count() and not given twice.
  Snapshot snapshot_of(std::span<const std::pair<u64, SharedBlock>> blocks) const;
  u64 block_count() const { return (image_.size() + kBlockSize - 1) / kBlockSize; }
  // Back to the image as it is.
  void clear();

 private:
  struct Block {
    std::array<u8, kBlockSize> bytes;
    u64 hash = 0;  // as it entered the sum; 0: not yet
  };
  struct Group {
    std::array<std::shared_ptr<Block>, kGroupBlocks> blocks;
  };
  static u64 hash_of(u64 number, const Block& block);
  const Block* find(u64 block) const;
  Group& writable_group(u64 block);

  BlockImage& image_;
  std::vector<std::shared_ptr<Group>> groups_;
  std::vector<u64> dirty_;  // blocks whose hash is not in the sum yet
  u64 sum_ = 0;
  u64 blocks_written_ = 0;
};

}  // namespace deja
