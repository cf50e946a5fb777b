#include "guest/ram.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/host_limits.h"

namespace deja {
namespace {

void* map_anonymous(u64 size, int prot) {
  void* p = mmap(nullptr, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

}  // namespace

bool is_zero_page(const u8* p) {
  const u64* w = reinterpret_cast<const u64*>(p);
  for (unsigned i = 0; i < kPageSize / 8; i += 8)
    if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7]) return false;
  return true;
}

Result<std::unique_ptr<GuestRam>> GuestRam::create(u64 size, u64 rom_size, u64 video_size) {
  if (size % kPageSize || size < 1_MiB || size > 16_GiB)
    return make_error("RAM size {} bytes: must be a multiple of 4 KiB between 1 MiB and 16 GiB", size);
  DEJA_CHECK(rom_size % kPageSize == 0 && rom_size <= kMaxRom, "ROM of {} bytes", rom_size);
  DEJA_CHECK((video_size == 0 || std::has_single_bit(video_size)) && video_size <= kMaxVideoMemory,
             "video memory of {} bytes", video_size);
  std::unique_ptr<GuestRam> ram(new GuestRam);
  ram->rom_size_ = rom_size;
  ram->video_size_ = video_size;
  ram->low_size_ = std::min(size, kMaxLowRam);
  ram->high_size_ = size - ram->low_size_;
  ram->mapped_ = rom_size || video_size ? std::max(ram->end(), kHighRamStart) : ram->end();
  // The hole stays inaccessible, and so does a guard page behind the end.
  ram->base_ = static_cast<u8*>(map_anonymous(ram->mapped_ + kPageSize, PROT_NONE));
  if (!ram->base_)
    return make_error("cannot reserve {} bytes of address space for guest RAM: {}", size, host_error(errno));
  const auto open = [&](u64 start, u64 bytes) {
    return bytes == 0 || mprotect(ram->base_ + start, bytes, PROT_READ | PROT_WRITE) == 0;
  };
  if (!open(0, ram->low_size_) || !open(kHighRamStart, ram->high_size_) ||
      !open(ram->rom_start(), rom_size) || !open(kVideoMemory, video_size))
    return make_error("cannot map {} bytes of guest RAM: {}", size, host_error(errno));
  madvise(ram->base_, ram->mapped_, MADV_HUGEPAGE);
  const u64 frames = ram->frames();
  ram->flags_ = static_cast<u8*>(map_anonymous(frames, PROT_READ | PROT_WRITE));
  ram->hashes_ = static_cast<u64*>(map_anonymous(frames * 8, PROT_READ | PROT_WRITE));
  if (!ram->flags_ || !ram->hashes_)
    return make_error("out of memory for {} page records: {}", frames, host_error(errno));
  std::fill_n(ram->flags_ + (ram->rom_start() >> kPageShift), rom_size >> kPageShift, kReadOnly);
  ram->unhashed_ = std::make_unique<WriteSet>(frames);
  ram->attach(ram->unhashed_.get());
  return ram;
}

GuestRam::~GuestRam() {
  if (base_) munmap(base_, mapped_ + kPageSize);
  if (flags_) munmap(flags_, frames());
  if (hashes_) munmap(hashes_, frames() * 8);
}

bool GuestRam::contains(Gpa p, u64 size) const {
  if (size == 0) return true;
  if (p.value < low_size_) return size <= low_size_ - p.value;
  if (p.value < kHighRamStart) {
    const u64 end = p.value >= rom_start() ? kHighRamStart : kVideoMemory + video_size_;
    return in_hole(p) && size <= end - p.value;
  }
  const u64 offset = p.value - kHighRamStart;
  return offset < high_size_ && size <= high_size_ - offset;
}

bool GuestRam::read(Gpa p, void* out, u64 size) const {
  if (!contains(p, size)) return false;
  std::memcpy(out, host(p, size), size);
  return true;
}

bool GuestRam::write(Gpa p, const void* data, u64 size) {
  if (!contains(p, size) || (size && !writable(p))) return false;
  std::memcpy(host(p, size), data, size);
  written(p, size);
  return true;
}

void GuestRam::load_rom(std::span<const u8> content) {
  DEJA_CHECK(content.size() == rom_size_, "{} bytes for a ROM of {}", content.size(), rom_size_);
  const Gpa start(rom_start());
  if (rom_size_ == 0 || std::memcmp(host(start), content.data(), rom_size_) == 0) return;
  std::memcpy(host(start), content.data(), rom_size_);
  written(start, rom_size_);
}

void GuestRam::set_aperture(std::optional<u64> start) {
  DEJA_CHECK(!start || (*start % kPageSize == 0 && *start >= low_size_ && *start < kHighRamStart &&
                        video_size_ <= kHighRamStart - *start),
             "a window to {:#x} bytes of video memory at {:#x}", video_size_, *start);
  aperture_ = start.value_or(0);
  aperture_size_ = start ? video_size_ : 0;
}

void GuestRam::written(Gpa p, u64 size) {
  if (size == 0) return;
  const u64 last = (p.value + size - 1) >> kPageShift;
  for (u64 frame = p.frame(); frame <= last; ++frame) {
    mark_dirty(frame);
    if ((flags_[frame] & kTracked) && observer_) {
      const u64 from = std::max(p.value, frame << kPageShift);
      const u64 to = std::min(p.value + size, (frame + 1) << kPageShift);
      observer_->tracked_page_written(Gpa(from), to - from);
    }
  }
}

u64 GuestRam::page_hash(u64 frame) const {
  const u8* page = host(Gpa(frame << kPageShift));
  if (is_zero_page(page)) return 0;
  return XXH3_64bits_withSeed(page, kPageSize, frame * 0x9e3779b97f4a7c15u + 1);
}

void GuestRam::set_source(PageSource* source) {
  source_ = source;
  absent_.assign(source ? (frames() + 63) / 64 : 0, 0);
}

void GuestRam::make_absent(std::span<const u32> frames) {
  for (const u32 frame : frames) {
    DEJA_CHECK(!(flags_[frame] & (kTracked | kReadWatched)), "frame {:#x}", frame);
    absent_[frame / 64] |= u64{1} << (frame % 64);
    for (WriteSet* set : write_sets_) set->add(frame);
  }
  if (observer_) observer_->pages_made_absent();
}

void GuestRam::load(u64 frame) const {
  source_->load(frame, base_ + (frame << kPageShift));
  absent_[frame / 64] &= ~(u64{1} << (frame % 64));
  if (!unhashed_->contains(static_cast<u32>(frame))) hashes_[frame] = page_hash(frame);
}

void GuestRam::load_range(Gpa p, u64 size) const {
  if (absent_.empty() || size == 0) return;
  for (u64 frame = p.frame(); frame <= (p.value + size - 1) >> kPageShift; ++frame)
    if (is_absent(frame)) load(frame);
}

void GuestRam::hash_absent_later() {
  if (absent_.empty()) return;
  sum_ = 0;
  for (u64 frame = 0; frame < frames(); ++frame) {
    if (is_absent(frame) && !unhashed_->contains(static_cast<u32>(frame))) {
      hashes_[frame] = 0;
      unhashed_->add(static_cast<u32>(frame));
    }
    sum_ += hashes_[frame];
  }
}

void GuestRam::adopt_digest(u64 digest) {
  collect_writes();
  for (const u32 frame : unhashed_->frames())
    if (!is_absent(frame)) hashes_[frame] = page_hash(frame);
  unhashed_->clear();
  sum_ = digest;
}

void GuestRam::attach(WriteSet* set) { write_sets_.push_back(set); }

void GuestRam::detach(WriteSet* set) { std::erase(write_sets_, set); }

void GuestRam::collect_writes() {
  for (const u32 frame : dirty_frames_) {
    for (WriteSet* set : write_sets_) set->add(frame);
    flags_[frame] &= static_cast<u8>(~kDirty);
  }
  dirty_frames_.clear();
  if (observer_) observer_->dirty_marks_cleared();
}

u64 GuestRam::digest() {
  collect_writes();
  for (const u32 frame : unhashed_->frames()) {
    const u64 h = page_hash(frame);
    sum_ += h - hashes_[frame];
    hashes_[frame] = h;
  }
  unhashed_->clear();
  return sum_;
}

bool GuestRam::digest_needs_absent() const {
  return std::any_of(unhashed_->frames().begin(), unhashed_->frames().end(),
                     [&](u32 frame) { return is_absent(frame); });
}

u64 GuestRam::digest_from_scratch() const {
  u64 sum = 0;
  for (u64 f = 0; f < frames(); ++f)
    if (contains(Gpa(f << kPageShift))) sum += page_hash(f);
  return sum;
}

}  // namespace deja
