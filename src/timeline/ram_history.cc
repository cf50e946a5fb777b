#include "timeline/ram_history.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace deja {
namespace {

constexpr std::array<u8, kPageSize> kZeros{};

bool is_stored(u32 number) { return number >= kFirstStoredPage && number < kMaxPages; }

bool by_frame(const FramePage& a, const FramePage& b) { return a.frame < b.frame; }

Gpa address_of(u32 frame) { return Gpa(u64{frame} << kPageShift); }

}  // namespace

RamHistory::RamHistory(GuestRam& ram, const CheckpointReader& checkpoints, MakeAgain make_again)
    : ram_(ram),
      checkpoints_(checkpoints),
      make_again_(std::move(make_again)),
      written_(ram.frames()),
      base_image_(ram.frames(), kPowerOnPage),
      present_(ram.frames(), kPowerOnPage),
      since_base_(ram.frames()),
      power_on_index_(ram.frames()) {
  ram_.attach(&written_);
  ram_.collect_writes();  // RAM begins as zeros: what was loaded is all that there is
  power_on_pages_.reserve(written_.frames().size() * kPageSize);
  for (const u32 frame : written_.frames()) {
    const u8* page = ram_.host(address_of(frame));
    power_on_pages_.insert(power_on_pages_.end(), page, page + kPageSize);
    power_on_index_[frame] = static_cast<u32>(power_on_pages_.size() / kPageSize);
  }
  power_on_.digest = ram_.digest();
  written_.clear();
  if (make_again_) ram_.set_source(this);
}

RamHistory::~RamHistory() {
  ram_.detach(&written_);
  ram_.set_source(nullptr);
}

u32 RamHistory::keep(const u8* page) {
  if (is_zero_page(page)) return kZeroPage;
  if (free_slots_.empty()) {
    const u32 first = kFirstSlot + static_cast<u32>(chunks_.size()) * kSlotsPerChunk;
    chunks_.push_back(std::make_unique_for_overwrite<u8[]>(kSlotsPerChunk * kPageSize));
    for (u32 i = kSlotsPerChunk; i-- > 0;) free_slots_.push_back(first + i);
  }
  const u32 number = free_slots_.back();
  free_slots_.pop_back();
  ++used_slots_;
  std::memcpy(slot(number), page, kPageSize);
  return number;
}

RamHistory::State RamHistory::capture() {
  DEJA_CHECK(!lost_, "RAM does not hold what checkpoint {} and {} frames say", base_,
             since_base_.frames().size());
  ram_.collect_writes();
  for (const u32 frame : written_.frames()) {
    present_[frame] = keep(ram_.host(address_of(frame)));
    since_base_.add(frame);
  }
  written_.clear();
  State state{base_, {}, {}};
  if (!ram_.digest_needs_absent()) state.digest = ram_.digest();
  state.changed.reserve(since_base_.frames().size());
  for (const u32 frame : since_base_.frames())
    if (present_[frame] != base_image_[frame]) state.changed.push_back({frame, present_[frame]});
  std::sort(state.changed.begin(), state.changed.end(), by_frame);
  return state;
}

const u8* RamHistory::content(u32 frame, u32 number) const {
  if (number >= kFirstSlot) return slot(number);
  const u32 index = number == kPowerOnPage ? power_on_index_[frame] : 0;
  return index ? &power_on_pages_[(index - u64{1}) * kPageSize] : kZeros.data();
}

// Touches no more than what differs: translated code and cached translations made from the rest stay good.
void RamHistory::put(u32 frame, const u8* page) {
  const u8* now = ram_.host(address_of(frame));
  if (std::memcmp(now, page, kPageSize) == 0) return;
  u64 from = 0, to = kPageSize;
  while (now[from] == page[from]) ++from;
  while (now[to - 1] == page[to - 1]) --to;
  ram_.write(address_of(frame) + from, page + from, to - from);
}

Status RamHistory::put_all(std::vector<FramePage> pages) {
  std::erase_if(pages, [&](const FramePage& p) {
    if (is_stored(p.page)) return false;
    put(p.frame, content(p.frame, p.page));
    return true;
  });
  std::sort(pages.begin(), pages.end(),
            [](const FramePage& a, const FramePage& b) { return a.page < b.page; });
  std::vector<u32> numbers;
  for (const FramePage& p : pages)
    if (numbers.empty() || numbers.back() != p.page) numbers.push_back(p.page);
  auto next = pages.begin();
  DEJA_TRY(checkpoints_.read_pages(numbers, [&](u32 number, const u8* page) {
    for (; next != pages.end() && next->page == number; ++next) put(next->frame, page);
  }));
  DEJA_CHECK(next == pages.end(), "frame {:#x} did not get page {}", next->frame, next->page);
  return {};
}

bool RamHistory::may_be_absent(u32 frame) const {
  return make_again_ && !(ram_.flags(frame) & (GuestRam::kTracked | GuestRam::kReadWatched));
}

void RamHistory::load(u64 frame, u8* page) {
  DEJA_CHECK(frame < present_.size(), "frame {:#x} of {:#x}", frame, present_.size());
  const u32 number = present_[frame];
  if (!is_stored(number)) {
    std::memcpy(page, content(static_cast<u32>(frame), number), kPageSize);
    return;
  }
  Status status = checkpoints_.read_page(number, page);
  if (!status && !damage_)
    status = make_again_(number, page);  // once is enough to know that RAM is of no use
  if (status) return;
  std::memset(page, 0, kPageSize);
  if (!damage_) damage_ = status.error();
}

void RamHistory::load_all() {
  for (u32 frame = 0; frame < present_.size() && !damage_; ++frame)
    if (ram_.is_absent(frame)) (void)ram_.host(address_of(frame));
}

Status RamHistory::restore(const State& state) {
  DEJA_CHECK(state.base <= checkpoints_.size(), "checkpoint {} of {}", state.base, checkpoints_.size());
  ram_.collect_writes();
  if (damage_) lost_ = true;
  damage_.reset();
  std::vector<FramePage> different;
  const auto check = [&](u32 frame, u32 wanted) {
    if (lost_ || present_[frame] != wanted || written_.contains(frame)) different.push_back({frame, wanted});
  };
  if (state.base == base_ && !lost_) {
    for (const FramePage& c : state.changed) check(c.frame, c.page);
    const auto in_state = [&](u32 frame) {
      return std::binary_search(state.changed.begin(), state.changed.end(), FramePage{frame, 0}, by_frame);
    };
    for (const u32 frame : since_base_.frames())
      if (!in_state(frame)) check(frame, base_image_[frame]);
    for (const u32 frame : written_.frames())
      if (!in_state(frame) && !since_base_.contains(frame)) check(frame, base_image_[frame]);
  } else {
    RamImage image = state.base ? checkpoints_.image(state.base - 1) : RamImage(ram_.frames(), kPowerOnPage);
    auto changed = state.changed.begin();
    for (u32 frame = 0; frame < image.size(); ++frame) {
      u32 wanted = image[frame];
      if (changed != state.changed.end() && changed->frame == frame) wanted = changed++->page;
      if (ram_.contains(address_of(frame))) check(frame, wanted);
    }
    DEJA_CHECK(changed == state.changed.end(), "frame {:#x} of a state is out of order, or beyond {:#x}",
               changed->frame, image.size());
    base_image_ = std::move(image);
    base_ = state.base;
    present_ = base_image_;
    since_base_.clear();
  }
  lost_ = true;
  std::vector<u32> absent;
  for (const FramePage& p : different)
    if (is_stored(p.page) && !checkpoints_.has_page(p.page))
      return make_error("page {} is in a damaged part of the file", p.page);
  std::erase_if(different, [&](const FramePage& p) {
    if (!may_be_absent(p.frame)) return false;
    absent.push_back(p.frame);
    return true;
  });
  DEJA_TRY(put_all(std::move(different)));
  lost_ = false;
  // The present is what `state` says from now on: absent pages are loaded by it.
  for (const u32 frame : since_base_.frames()) present_[frame] = base_image_[frame];
  since_base_.clear();
  for (const FramePage& c : state.changed) {
    present_[c.frame] = c.page;
    since_base_.add(c.frame);
  }
  if (!state.digest) ram_.hash_absent_later();
  if (!absent.empty()) ram_.make_absent(absent);
  if (state.digest) ram_.adopt_digest(*state.digest);
  ram_.collect_writes();
  written_.clear();
  return {};
}

RamHistory::SinceBase RamHistory::since_base() {
  DEJA_CHECK(!lost_, "RAM is of no moment: a restore from checkpoint {} failed", base_);
  ram_.collect_writes();
  SinceBase out{base_, since_base_.frames()};
  for (const u32 frame : written_.frames())
    if (!since_base_.contains(frame)) out.frames.push_back(frame);
  return out;
}

void RamHistory::free_all_but(std::span<const State* const> alive) {
  std::vector<bool> needed(chunks_.size() * kSlotsPerChunk);
  const auto mark = [&](u32 number) {
    if (number < kFirstSlot) return;
    DEJA_CHECK(number - kFirstSlot < needed.size(), "slot {} of {}", number - kFirstSlot, needed.size());
    needed[number - kFirstSlot] = true;
  };
  for (const State* state : alive)
    for (const FramePage& c : state->changed) mark(c.page);
  for (const u32 frame : since_base_.frames()) mark(present_[frame]);
  free_slots_.clear();
  used_slots_ = 0;
  for (u32 i = static_cast<u32>(needed.size()); i-- > 0;) {
    if (needed[i])
      ++used_slots_;
    else
      free_slots_.push_back(kFirstSlot + i);
  }
}

}  // namespace deja
