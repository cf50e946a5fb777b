#include "devices/disk_overlay.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace deja {

DiskOverlay::DiskOverlay(BlockImage& image) : image_(image) { clear(); }

void DiskOverlay::clear() {
  const u64 blocks = (image_.size() + kBlockSize - 1) / kBlockSize;
  groups_.assign((blocks + kGroupBlocks - 1) / kGroupBlocks, nullptr);
  dirty_.clear();
  sum_ = blocks_written_ = 0;
}

const DiskOverlay::Block* DiskOverlay::find(u64 block) const {
  const u64 group = block / kGroupBlocks;
  if (group >= groups_.size() || !groups_[group]) return nullptr;
  return groups_[group]->blocks[block % kGroupBlocks].get();
}

Status DiskOverlay::read(u64 offset, std::span<u8> out) {
  // What lies in the image is read in runs as long as possible.
  u64 run = 0;
  const auto flush = [&](u64 end) -> Status {
    if (run == 0) return {};
    DEJA_TRY(image_.read(offset + end - run, out.subspan(end - run, run)));
    run = 0;
    return {};
  };
  for (u64 done = 0; done < out.size();) {
    const u64 at = offset + done;
    const u64 in_block = at % kBlockSize;
    const u64 n = std::min<u64>(kBlockSize - in_block, out.size() - done);
    if (const Block* b = find(at / kBlockSize)) {
      DEJA_TRY(flush(done));
      std::memcpy(out.data() + done, b->bytes.data() + in_block, n);
    } else {
      run += n;
    }
    done += n;
  }
  return flush(out.size());
}

DiskOverlay::Group& DiskOverlay::writable_group(u64 block) {
  std::shared_ptr<Group>& group = groups_[block / kGroupBlocks];
  if (!group)
    group = std::make_shared<Group>();
  else if (group.use_count() > 1)
    group = std::make_shared<Group>(*group);
  return *group;
}

Status DiskOverlay::write(u64 offset, std::span<const u8> data) {
  if (data.empty()) return {};
  DEJA_CHECK(offset + data.size() <= groups_.size() * kGroupBlocks * kBlockSize, "write beyond the disk");
  // Blocks written in part, the first and the last, start from what the disk holds. Reading that comes first:
  // it is all that can fail.
  const u64 first = offset / kBlockSize, last = (offset + data.size() - 1) / kBlockSize;
  std::array<u8, kBlockSize> head, tail;
  DEJA_TRY(read(first * kBlockSize, head));
  if (last != first) DEJA_TRY(read(last * kBlockSize, tail));
  for (u64 done = 0; done < data.size();) {
    const u64 at = offset + done, number = at / kBlockSize, in_block = at % kBlockSize;
    const u64 n = std::min<u64>(kBlockSize - in_block, data.size() - done);
    std::shared_ptr<Block>& block = writable_group(number).blocks[number % kGroupBlocks];
    const u64 old_hash = block ? block->hash : 0;
    if (!block) {
      block = std::make_shared<Block>();
      ++blocks_written_;
    } else if (block.use_count() > 1) {
      block = std::make_shared<Block>(*block);
    }
    if (n < kBlockSize) block->bytes = number == first ? head : tail;
    std::memcpy(block->bytes.data() + in_block, data.data() + done, n);
    sum_ -= old_hash;
    // A block without a hash is in `dirty_` already, unless it is new.
    if (old_hash || block->hash == 0) dirty_.push_back(number);
    block->hash = 0;
    done += n;
  }
  return {};
}

u64 DiskOverlay::digest() {
  for (const u64 number : dirty_) {
    Block& b = *groups_[number / kGroupBlocks]->blocks[number % kGroupBlocks];
    if (b.hash) continue;
    b.hash = XXH3_64bits_withSeed(b.bytes.data(), kBlockSize, number * 0x9e3779b97f4a7c15u + 1) | 1;
    sum_ += b.hash;
  }
  dirty_.clear();
  return sum_;
}

DiskOverlay::Snapshot DiskOverlay::snapshot() {
  Snapshot s;
  s.digest = digest();
  s.blocks_written = blocks_written_;
  s.groups.assign(groups_.begin(), groups_.end());
  return s;
}

void DiskOverlay::restore(const Snapshot& s) {
  DEJA_CHECK(s.groups.size() == groups_.size(), "a snapshot of another disk");
  // What was handed out as const is shared from here on, and copied before it is written.
  for (std::size_t i = 0; i < groups_.size(); ++i)
    groups_[i] = std::static_pointer_cast<Group>(std::const_pointer_cast<void>(s.groups[i]));
  dirty_.clear();
  sum_ = s.digest;
  blocks_written_ = s.blocks_written;
}

}  // namespace deja
