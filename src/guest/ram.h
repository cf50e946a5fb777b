// Guest RAM: one host mapping in which guest physical address p stands at base + p; RAM is [0, low_size) and
// [4 GiB, 4 GiB + high_size), what lies between is the hole for PCI and APIC windows. In the hole there may
// be memory of two more kinds, which is accounted, saved and digested like RAM: a firmware ROM that ends at
// 4 GiB, and video memory at kVideoMemory, which is also seen through a window that the guest moves.
// Every write, from translated code, C++ helpers or device DMA, is accounted page by page for the digest, and
// pages that hold translated code or page tables report writes to an observer.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

inline constexpr u64 kHighRamStart = 4_GiB;
inline constexpr u64 kMaxLowRam = 3_GiB;  // the hole is [3 GiB, 4 GiB)
inline constexpr u64 kVideoMemory = 0xe1000000;
inline constexpr u64 kMaxVideoMemory = 16_MiB;
inline constexpr u64 kMaxRom = 8_MiB;

// Told of writes to tracked pages, after the bytes have changed.
class RamObserver {
 public:
  virtual ~RamObserver() = default;
  virtual void tracked_page_written(Gpa address, u64 size) = 0;
  // A page walk set accessed or dirty bits in the byte at `entry`, on a watched page.
  virtual void walk_marked(Gpa entry) = 0;
  // The dirty marks were cleared: writable mappings cached anywhere must be dropped.
  virtual void dirty_marks_cleared() = 0;
  // Pages have become absent: mappings of them cached anywhere must be dropped.
  virtual void pages_made_absent() = 0;
};

// Gives absent pages their content when somebody first needs it.
class PageSource {
 public:
  virtual ~PageSource() = default;
  virtual void load(u64 frame, u8* page) = 0;
};

// The frames written since their reader last asked. Each reader of writes has its own: GuestRam::attach.
class WriteSet {
 public:
  explicit WriteSet(u64 frames) : seen_((frames + 63) / 64) {}
  // Without duplicates, in the order in which they were first written. Current after
  // GuestRam::collect_writes.
  const std::vector<u32>& frames() const { return frames_; }
  bool contains(u32 frame) const { return seen_[frame / 64] >> (frame % 64) & 1; }
  void add(u32 frame) {
    if (contains(frame)) return;
    seen_[frame / 64] |= u64{1} << (frame % 64);
    frames_.push_back(frame);
  }
  void clear() {
    for (const u32 f : frames_) seen_[f / 64] = 0;
    frames_.clear();
  }

 private:
  std::vector<u32> frames_;
  std::vector<u64> seen_;  // a bit a frame
};

bool is_zero_page(const u8* page);

class GuestRam {
 public:
  // In bytes, multiples of 4 KiB. RAM: 1 MiB..16 GiB; ROM: 0..kMaxRom; video memory: 0..kMaxVideoMemory, 0 or
  // a power of two.
  static Result<std::unique_ptr<GuestRam>> create(u64 size, u64 rom_size = 0, u64 video_size = 0);
  ~GuestRam();
  GuestRam(const GuestRam&) = delete;

  u64 size() const { return low_size_ + high_size_; }
  u64 low_size() const { return low_size_; }
  u64 high_size() const { return high_size_; }
  u64 end() const { return high_size_ ? kHighRamStart + high_size_ : low_size_; }
  // Pages of the whole map: none in RAM or in the hole has a higher number.
  u64 frames() const { return mapped_ >> kPageShift; }
  // Is there memory: RAM, ROM or video memory?
  bool contains(Gpa p) const {
    return p.value < low_size_ || (p.value >= kHighRamStart && p.value - kHighRamStart < high_size_) ||
           in_hole(p);
  }
  // Whole range inside one piece of memory?
  bool contains(Gpa p, u64 size) const;
  bool writable(Gpa p) const { return contains(p) && !(flags_[p.frame()] & kReadOnly); }

  u64 rom_start() const { return kHighRamStart - rom_size_; }
  // `content` fills the ROM. To be called at power-on.
  void load_rom(std::span<const u8> content);
  u64 video_size() const { return video_size_; }
  // Video memory is also seen at [start, start + video_size()), a range of whole pages in the hole; nothing:
  // nowhere else. Cached translations must then be dropped.
  void set_aperture(std::optional<u64> start);
  // Where the memory stands that an access to `p` reaches.
  Gpa resolve(Gpa p) const {
    return p.value - aperture_ < aperture_size_ ? Gpa(p.value - aperture_ + kVideoMemory) : p;
  }

  u8* base() const { return base_; }
  // The caller has checked contains(). What is looked at lies in one page…
  u8* host(Gpa p) const {
    if (is_absent(p.frame())) load(p.frame());
    return base_ + p.value;
  }
  // …or in `size` bytes.
  u8* host(Gpa p, u64 size) const {
    load_range(p, size);
    return base_ + p.value;
  }

  // Bounds-checked copies; false (and nothing done) when any byte is not memory, or for write() not writable.
  // write() does all accounting.
  bool read(Gpa p, void* out, u64 size) const;
  bool write(Gpa p, const void* data, u64 size);

  // Page flags, one byte a frame.
  enum : u8 {
    kDirty = 1,       // written since the writes were last collected
    kCode = 2,        // holds translated code
    kPageTable = 4,   // a leaf page table (its entries map 4 KiB pages) that cached translations derive from
    kUpperTable = 8,  // a higher-level paging structure likewise
    kWriteCached = 16,  // some TLB maps it writable (fast stores possible)
    kWatched = 32,      // a debugger watches bytes of it: no fast stores
    kReadWatched = 64,  // and reads of them: no fast loads either
    kReadOnly = 128,    // ROM: what is stored there is lost
    kTracked = kCode | kPageTable | kUpperTable | kWatched | kReadOnly,
  };
  u8& flags(u64 frame) { return flags_[frame]; }
  void set_observer(RamObserver* o) { observer_ = o; }

  // To be called after bytes changed through host(); marks dirty and reports tracked pages.
  void written(Gpa p, u64 size);
  // The same for accessed and dirty bits, which change no translation.
  void walk_marked(Gpa entry) {
    mark_dirty(entry.frame());
    if ((flags_[entry.frame()] & kWatched) && observer_) observer_->walk_marked(entry);
  }
  void mark_dirty(u64 frame) {
    if (!(flags_[frame] & kDirty)) {
      flags_[frame] |= kDirty;
      dirty_frames_.push_back(static_cast<u32>(frame));
    }
  }

  // Absent pages hold what `source` has for them, which is fetched at the first look. Nobody can tell, but by
  // the time it takes.
  void set_source(PageSource* source);
  bool is_absent(u64 frame) const { return !absent_.empty() && (absent_[frame / 64] >> (frame % 64) & 1); }
  // What the source has for these is different from now on, which counts as a write to them. None is tracked
  // or watched. Before, hash_absent_later(), or afterwards, adopt_digest().
  void make_absent(std::span<const u32> frames);
  void hash_absent_later();
  // What RAM holds now, with what is absent, is known to have this digest: nothing need be loaded for it.
  void adopt_digest(u64 digest);

  // `set` (made for frames()) learns of every write from now on, at each collect_writes(). It must be
  // detached before it dies.
  void attach(WriteSet* set);
  void detach(WriteSet* set);
  // Hands the frames written since the last call to all attached sets. Afterwards the first store to each
  // page takes a slow path again, so this is for every 10^5 steps, not for every ten.
  void collect_writes();

  // Digest of the whole RAM: the sum over non-zero pages of XXH3(page, seed = frame number). A pure function
  // of content. Rehashes only pages written since the last call.
  u64 digest();
  // Whether that means loading absent pages.
  bool digest_needs_absent() const;
  // The same computed from scratch; used by tests and by the divergence report.
  u64 digest_from_scratch() const;
  // Hash of one page as it enters the sum (0 for a zero page).
  u64 page_hash(u64 frame) const;

 private:
  GuestRam() = default;
  bool in_hole(Gpa p) const {
    return p.value - kVideoMemory < video_size_ || p.value - rom_start() < rom_size_;
  }
  void load(u64 frame) const;
  void load_range(Gpa p, u64 size) const;

  u8* base_ = nullptr;
  u64 mapped_ = 0;
  u64 low_size_ = 0, high_size_ = 0;
  u64 rom_size_ = 0, video_size_ = 0;
  u64 aperture_ = 0, aperture_size_ = 0;  // no size: there is none
  u8* flags_ = nullptr;
  // Per frame, as last summed. Of an absent page that is not to be hashed anew it is not known.
  u64* hashes_ = nullptr;
  u64 sum_ = 0;
  PageSource* source_ = nullptr;
  mutable std::vector<u64> absent_;    // a bit a frame; empty: there is no source
  std::vector<u32> dirty_frames_;      // those marked kDirty
  std::vector<WriteSet*> write_sets_;  // the first is unhashed_
  std::unique_ptr<WriteSet> unhashed_;
  RamObserver* observer_ = nullptr;
};

}  // namespace deja
