#include "devices/storage/block_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>
#include <utility>

#include "base/log.h"

namespace deja {
namespace {

// Most sessions write less, and never touch the disk.
constexpr u64 kInMemory = 256_MiB;

constexpr StoredBlock::Bytes kZeros{};

// Never 0, which stands for a block that was not written.
u64 hash_of(u64 number, const u8* bytes) {
  return XXH3_64bits_withSeed(bytes, StoredBlock::kSize, number * 0x9e3779b97f4a7c15u + 1) | 1;
}

}  // namespace

BlockStore& BlockStore::of_process() {
  // Never destroyed: blocks outlive main().
  static BlockStore& store = *[] {
    Result<ScratchFile> file = ScratchFile::create(ScratchFile::usual_dir());
    if (file) return new BlockStore(kInMemory, std::move(file).value());
    log_warn("disk",
             "{}; all that the guest writes to its disks is kept in memory. TMPDIR names another place",
             file.error().message);
    return new BlockStore(0, std::nullopt);
  }();
  return store;
}

Result<std::shared_ptr<const StoredBlock>> BlockStore::make(u64 number, const u8* bytes) {
  // The store's own, which outlives all that is in it: nobody has to count who holds it.
  if (std::memcmp(bytes, kZeros.data(), StoredBlock::kSize) == 0)
    return std::shared_ptr<const StoredBlock>(std::shared_ptr<const void>(), &zeros_);
  const std::shared_ptr<StoredBlock> block(new StoredBlock(*this, number, hash_of(number, bytes)));
  const std::unique_lock lock(mutex_);
  if (memory_blocks_ > 0) {
    block->bytes_ = std::make_unique_for_overwrite<StoredBlock::Bytes>();
    --memory_blocks_;
    std::memcpy(block->bytes_->data(), bytes, StoredBlock::kSize);
    return std::shared_ptr<const StoredBlock>(block);
  }
  const u32 slot = free_.empty() ? slots_ : free_.back();
  DEJA_TRY(scratch_->write(slot * StoredBlock::kSize, {bytes, StoredBlock::kSize}));
  if (free_.empty())
    ++slots_;
  else
    free_.pop_back();
  block->slot_ = slot + 1;
  return std::shared_ptr<const StoredBlock>(block);
}

u64 StoredBlock::hash(u64 number) const {
  if (is_zero()) return hash_of(number, kZeros.data());
  DEJA_CHECK(number == number_, "block {} stands as {}", number_, number);
  return hash_;
}

Status StoredBlock::read(Bytes* out) const {
  if (bytes_ || is_zero()) {
    *out = bytes_ ? *bytes_ : kZeros;
    return {};
  }
  DEJA_TRY(store_.scratch_->read((slot_ - 1) * kSize, *out));
  // The kernel writes back on its own, and tells nobody when that fails.
  if (hash_of(number_, out->data()) == hash_) return {};
  return make_error("scratch space in {}: what is read is not what was written; is the host's disk failing?",
                    store_.scratch_->dir());
}

StoredBlock::~StoredBlock() {
  if (is_zero()) return;
  const std::unique_lock lock(store_.mutex_);
  if (bytes_)
    ++store_.memory_blocks_;
  else if (slot_)
    store_.free_.push_back(slot_ - 1);
}

u64 BlockStore::scratch_bytes() const {
  const std::unique_lock lock(mutex_);
  return (slots_ - free_.size()) * StoredBlock::kSize;
}

}  // namespace deja
