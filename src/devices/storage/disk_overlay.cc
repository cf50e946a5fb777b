#include "devices/storage/disk_overlay.h"

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

constexpr StoredBlock::Bytes kZeros{};

}  // namespace

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
  // The image is read in runs as long as possible.
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
    const u64 at = offset + done;
    const u64 n = std::min<u64>(kBlockSize - at % kBlockSize, data.size() - done);
    DEJA_ASSIGN(NumberedBlock block, merged(at, data.data() + done, n));
    written.push_back(std::move(block));
    done += n;
  }
  put(written);
  return {};
}

Result<DiskOverlay::NumberedBlock> DiskOverlay::merged(u64 offset, const u8* data, u64 size) {
  const u64 number = offset / kBlockSize;
  StoredBlock::Bytes bytes;
  if (size < kBlockSize) DEJA_TRY(read_block(number, &bytes));
  std::memcpy(bytes.data() + offset % kBlockSize, data, size);
  DEJA_ASSIGN(SharedBlock block, store_.make(number, bytes.data()));
  return NumberedBlock{number, std::move(block)};
}

Status DiskOverlay::write_zeros(u64 offset, u64 size) {
  if (size == 0) return {};
  const u64 end = offset + size;
  DEJA_CHECK(offset < end && end <= groups_.size() * kGroupBlocks * kBlockSize, "zeros beyond the disk");
  const u64 first = (offset + kBlockSize - 1) / kBlockSize, last = end / kBlockSize;  // the whole blocks
  std::vector<NumberedBlock> written;
  const auto zero_part = [&](u64 from, u64 to) -> Status {
    if (from == to) return {};
    DEJA_ASSIGN(NumberedBlock block, merged(from, kZeros.data(), to - from));
    written.push_back(std::move(block));
    return {};
  };
  if (first > last) {
    DEJA_TRY(zero_part(offset, end));
  } else {
    DEJA_TRY(zero_part(offset, first * kBlockSize));
    DEJA_TRY(find_nonzero(first, last, &written));
    DEJA_TRY(zero_part(last * kBlockSize, end));
  }
  put(written);
  return {};
}

Status DiskOverlay::find_nonzero(u64 first, u64 end, std::vector<NumberedBlock>* out) {
  constexpr u64 kBlocksAtOnce = 256;
  std::vector<u8> bytes;
  for (u64 at = first; at < end;) {
    if (const StoredBlock* b = find(at)) {
      if (!b->is_zero()) {
        DEJA_ASSIGN(SharedBlock block, store_.make(at, kZeros.data()));
        out->push_back({at, std::move(block)});
      }
      ++at;
      continue;
    }
    u64 run = 1;
    while (run < kBlocksAtOnce && at + run < end && !find(at + run)) ++run;
    bytes.resize(run * kBlockSize);
    DEJA_TRY(image_.read(at * kBlockSize, bytes));
    for (u64 i = 0; i < run; ++i) {
      if (std::memcmp(&bytes[i * kBlockSize], kZeros.data(), kBlockSize) == 0) continue;
      DEJA_ASSIGN(SharedBlock block, store_.make(at + i, kZeros.data()));
      out->push_back({at + i, std::move(block)});
    }
    at += run;
  }
  return {};
}

void DiskOverlay::put(std::span<NumberedBlock> blocks) {
  for (NumberedBlock& w : blocks) {
    SharedBlock& block = writable_group(w.number).blocks[w.number % kGroupBlocks];
    if (block)
      sum_ -= block->hash(w.number);
    else
      ++blocks_written_;
    block = std::move(w.block);
    sum_ += block->hash(w.number);
  }
}

// Bytes beyond the end of the disk are zeros.
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
  // Groups that were handed out as const are shared from here on, and copied before they are written.
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
    s.digest += block->hash(number);
    std::shared_ptr<Group>& group = groups[number / kGroupBlocks];
    if (!group) group = std::make_shared<Group>();
    group->blocks[number % kGroupBlocks] = block;
  }
  s.groups.assign(groups.begin(), groups.end());
  return s;
}

}  // namespace deja
