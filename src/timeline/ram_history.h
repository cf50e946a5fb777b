// What guest RAM held at several moments, so that it can be put back: as loaded at power-on, as checkpoints
// on disk have it, and as captured in memory. Going from one moment to another touches only the pages that
// differ, and of those only what the guest works with is put back at once: the others are absent, and loaded
// when somebody looks (GuestRam).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint_reader.h"
#include "guest/ram.h"

namespace deja {

class RamHistory final : private PageSource {
 public:
  // RAM at some moment: a checkpoint, or power-on, and what is different from it.
  struct State {
    std::size_t base = 0;            // number of the checkpoint plus one; 0: power-on
    std::vector<FramePage> changed;  // by frame
    std::optional<u64> digest;       // when it is known
  };
  // Makes the content of a stored page again that cannot be read.
  using MakeAgain = std::function<Status(u32 number, u8* page)>;

  // `ram` is as loaded at power-on. Both outlive the history. Without `make_again` all pages are loaded at
  // once, so that damage shows in restore().
  RamHistory(GuestRam& ram, const CheckpointReader& checkpoints, MakeAgain make_again);
  ~RamHistory() override;
  RamHistory(const RamHistory&) = delete;

  const State& power_on() const { return power_on_; }
  static State checkpoint(std::size_t i, std::optional<u64> digest) { return {i + 1, {}, digest}; }
  // Keeps a copy of every page written since the last capture or restore.
  State capture();
  // An error: a page of a checkpoint is damaged. RAM is then of no use until another restore succeeds.
  Status restore(const State& state);
  // Loads all that is absent.
  void load_all();
  // A page that was absent could neither be read nor made again: RAM is of no use until another restore.
  const std::optional<Error>& damage() const { return damage_; }

  // The checkpoint (number plus one, 0: power-on) that the present is described by, and all frames that may
  // have been written since.
  struct SinceBase {
    std::size_t base = 0;
    std::vector<u32> frames;
  };
  SinceBase since_base();
  std::size_t base() const { return base_; }  // that of State

  // Memory that captured pages take. Those that neither a state in `alive` nor the present needs can be
  // freed.
  u64 bytes() const { return used_slots_ * kPageSize; }
  void free_all_but(std::span<const State* const> alive);

 private:
  // Numbers of pages as in checkpoints; from this one on they are slots in memory.
  static constexpr u32 kFirstSlot = kMaxPages;
  static constexpr u32 kSlotsPerChunk = 256;

  u8* slot(u32 number) const {
    const u32 i = number - kFirstSlot;
    DEJA_CHECK(number >= kFirstSlot && i / kSlotsPerChunk < chunks_.size(), "page {} of {} chunks", number,
               chunks_.size());
    return chunks_[i / kSlotsPerChunk].get() + u64{i % kSlotsPerChunk} * kPageSize;
  }
  u32 keep(const u8* page);
  const u8* content(u32 frame, u32 number) const;  // not of checkpoints' pages
  void put(u32 frame, const u8* page);
  Status put_all(std::vector<FramePage> pages);
  // Whether nothing derives from the page, so that it can be absent.
  bool may_be_absent(u32 frame) const;
  void load(u64 frame, u8* page) override;

  GuestRam& ram_;
  const CheckpointReader& checkpoints_;
  const MakeAgain make_again_;
  State power_on_;
  std::optional<Error> damage_;
  WriteSet written_;     // since RAM was what present_ says
  RamImage base_image_;  // of base_
  std::size_t base_ = 0;
  RamImage present_;
  WriteSet since_base_;              // frames in which present_ may differ from base_image_
  bool lost_ = false;                // a restore failed: RAM is not what present_ says
  std::vector<u32> power_on_index_;  // by frame: place in power_on_pages_ plus one; 0: a page of zeros
  std::vector<u8> power_on_pages_;
  std::vector<std::unique_ptr<u8[]>> chunks_;
  std::vector<u32> free_slots_;
  u64 used_slots_ = 0;
};

}  // namespace deja
