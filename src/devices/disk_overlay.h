// What a guest has written to a disk, in blocks of 4 KiB: a part of the machine's state, like RAM.
//
// A snapshot costs one pointer for each 2 MiB of disk: blocks and tables of blocks are shared, and copied
// when they are written while somebody else holds them.
#pragma once

#include <array>
#include <memory>
#include <span>
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
  const Block* find(u64 block) const;
  Group& writable_group(u64 block);

  BlockImage& image_;
  std::vector<std::shared_ptr<Group>> groups_;
  std::vector<u64> dirty_;  // blocks whose hash is not in the sum yet
  u64 sum_ = 0;
  u64 blocks_written_ = 0;
};

}  // namespace deja
