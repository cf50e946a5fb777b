#include "devices/disk_overlay.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace deja {

DiskOverlay::DiskOverlay(BlockImage& image) : image_(image) { clear(); }

void DiskOverlay::clear() {
  groups_.assign((block_count() + kGroupBlocks - 1) / kGroupBlocks, nullptr);
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

// Never 0, which stands for a block without one.
u64 DiskOverlay::hash_of(u64 number, const Block& block) {
  return XXH3_64bits_withSeed(block.bytes.data(), kBlockSize, number * 0x9e3779b97f4a7c15u + 1) | 1;
}

u64 DiskOverlay::digest() {
  for (const u64 number : dirty_) {
    Block& b = *groups_[number / kGroupBlocks]->blocks[number % kGroupBlocks];
    if (b.hash) continue;
    b.hash = hash_of(number, b);
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

std::vector<DiskOverlay::NumberedBlock> DiskOverlay::changes(const Snapshot& before, const Snapshot& now) {
  std::vector<NumberedBlock> out;
  for (std::size_t g = 0; g < now.groups.size(); ++g) {
    const auto* group = static_cast<const Group*>(now.groups[g].get());
    const auto* old = g < before.groups.size() ? static_cast<const Group*>(before.groups[g].get()) : nullptr;
    if (!group || group == old) continue;
    for (std::size_t i = 0; i < kGroupBlocks; ++i) {
      const Block* block = group->blocks[i].get();
      if (block && (!old || old->blocks[i].get() != block))
        out.push_back({g * kGroupBlocks + i, block->bytes.data()});
    }
  }
  return out;
}

DiskOverlay::SharedBlock DiskOverlay::make_block(u64 number, const u8* bytes) {
  auto block = std::make_shared<Block>();
  std::memcpy(block->bytes.data(), bytes, kBlockSize);
  block->hash = hash_of(number, *block);
  return block;
}

DiskOverlay::Snapshot DiskOverlay::snapshot_of(std::span<const std::pair<u64, SharedBlock>> blocks) const {
  std::vector<std::shared_ptr<Group>> groups(groups_.size());
  Snapshot s;
  s.blocks_written = blocks.size();
  for (const auto& [number, shared] : blocks) {
    DEJA_CHECK(number < block_count(), "block {} of a disk of {}", number, block_count());
    // What a snapshot holds is copied before it is written, whoever made it.
    auto block = std::static_pointer_cast<Block>(std::const_pointer_cast<void>(shared));
    s.digest += block->hash;
    std::shared_ptr<Group>& group = groups[number / kGroupBlocks];
    if (!group) group = std::make_shared<Group>();
    group->blocks[number % kGroupBlocks] = std::move(block);
  }
  s.groups.assign(groups.begin(), groups.end());
  return s;
}

}  // namespace deja
