#include "devices/disk_overlay.h"

#include <algorithm>
#include <cstring>

namespace deja {

DiskOverlay::DiskOverlay(BlockImage& image, BlockStore& store) : image_(image), store_(store) { clear(); }

void DiskOverlay::clear() {
  groups_.assign((block_count() + kGroupBlocks - 1) / kGroupBlocks, nullptr);
  sum_ = blocks_written_ = 0;
}

const StoredBlock* DiskOverlay::find(u64 block) const {
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
    if (const StoredBlock* b = find(at / kBlockSize)) {
      DEJA_TRY(flush(done));
      StoredBlock::Bytes bytes;
      DEJA_TRY(b->read(&bytes));
      std::memcpy(out.data() + done, bytes.data() + in_block, n);
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
  // First all that can fail.
  std::vector<NumberedBlock> written;
  for (u64 done = 0; done < data.size();) {
    const u64 at = offset + done, number = at / kBlockSize, in_block = at % kBlockSize;
    const u64 n = std::min<u64>(kBlockSize - in_block, data.size() - done);
    StoredBlock::Bytes bytes;
    if (n < kBlockSize) DEJA_TRY(read_block(number, &bytes));
    std::memcpy(bytes.data() + in_block, data.data() + done, n);
    DEJA_ASSIGN(SharedBlock block, store_.make(number, bytes.data()));
    written.push_back({number, std::move(block)});
    done += n;
  }
  for (NumberedBlock& w : written) {
    SharedBlock& block = writable_group(w.number).blocks[w.number % kGroupBlocks];
    if (block)
      sum_ -= block->hash();
    else
      ++blocks_written_;
    block = std::move(w.block);
    sum_ += block->hash();
  }
  return {};
}

// What lies beyond the end of the disk is zeros.
Status DiskOverlay::read_block(u64 block, StoredBlock::Bytes* out) { return read(block * kBlockSize, *out); }

DiskOverlay::Snapshot DiskOverlay::snapshot() const {
  Snapshot s;
  s.digest = sum_;
  s.blocks_written = blocks_written_;
  s.groups.assign(groups_.begin(), groups_.end());
  return s;
}

void DiskOverlay::restore(const Snapshot& s) {
  DEJA_CHECK(s.groups.size() == groups_.size(), "a snapshot of another disk");
  // What was handed out as const is shared from here on, and copied before it is written.
  for (std::size_t i = 0; i < groups_.size(); ++i)
    groups_[i] = std::static_pointer_cast<Group>(std::const_pointer_cast<void>(s.groups[i]));
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
      const SharedBlock& block = group->blocks[i];
      if (block && (!old || old->blocks[i] != block)) out.push_back({g * kGroupBlocks + i, block});
    }
  }
  return out;
}

DiskOverlay::Snapshot DiskOverlay::snapshot_of(std::span<const NumberedBlock> blocks) const {
  std::vector<std::shared_ptr<Group>> groups(groups_.size());
  Snapshot s;
  s.blocks_written = blocks.size();
  for (const auto& [number, block] : blocks) {
    DEJA_CHECK(number < block_count(), "block {} of a disk of {}", number, block_count());
    s.digest += block->hash();
    std::shared_ptr<Group>& group = groups[number / kGroupBlocks];
    if (!group) group = std::make_shared<Group>();
    group->blocks[number % kGroupBlocks] = block;
  }
  s.groups.assign(groups.begin(), groups.end());
  return s;
}

}  // namespace deja
