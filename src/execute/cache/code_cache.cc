#include "execute/cache/code_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/check.h"
#include "base/host_limits.h"

namespace deja {
namespace {
constexpr u64 kProbeReadable = (static_cast<u64>(kMaxSliceSteps) >> kCounterShift) + kPageSize;
constexpr u64 kProbeGuard = 64_KiB;
constexpr u32 kLetGo = 4_MiB;
constexpr u32 kPopulate = 128_KiB;    // of main code at a time
constexpr unsigned kFirstIndex = 18;  // log2 of entries
// Room for the thunks and for a block of the greatest size at least.
constexpr u64 kLeastRegion = 256_KiB;
static_assert(kLeastRegion / 4 >= 2 * Translator::kMaxBlockCode);
}  // namespace

CodeCache::CodeCache(GuestRam& ram, u64 bytes)
    : ram_(ram),
      bytes_(bytes),
      region_count_(static_cast<unsigned>(std::clamp<u64>(bytes / kLeastRegion, 1, kMaxRegions))),
      // Cold code is a quarter of it at the most, as a rule.
      hot_bytes_(static_cast<u32>(bytes / region_count_ * 3 / 4 & ~(kPageSize - 1))),
      cold_bytes_(static_cast<u32>(bytes / region_count_ / 4 & ~(kPageSize - 1))) {
  resize_index(kFirstIndex);
  for (unsigned r = 0; r < region_count_; ++r) reset(r);
}

CodeCache::~CodeCache() {
  if (context_) context_->~ExecContext();
  if (probe_map_) munmap(probe_map_, kProbeGuard + kProbeReadable);
  if (page_index_) munmap(page_index_, ram_.frames() * 4);
}

Status CodeCache::init() {
  const auto failed = [](const char* what) {
    return make_error("cannot set up the code cache: {}: {}", what, host_error(errno));
  };
  DEJA_ASSIGN(memory_, CodeMemory::take(bytes_));
  write_ = memory_.write();
  exec_ = memory_.exec();
  context_ = new (memory_.front()) ExecContext;
  // The probe is addressed by a 32-bit displacement: it has to lie below 2 GiB.
  probe_map_ =
      mmap(nullptr, kProbeGuard + kProbeReadable, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (probe_map_ == MAP_FAILED)
    return probe_map_ = nullptr, failed("reserving the counter's guard below 2 GiB");
  probe_ = reinterpret_cast<u64>(probe_map_) + kProbeGuard;
  if (mprotect(reinterpret_cast<void*>(probe_), kProbeReadable, PROT_READ)) return failed("mprotect");
  page_index_ = static_cast<u32*>(mmap(nullptr, ram_.frames() * 4, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (page_index_ == MAP_FAILED) return page_index_ = nullptr, failed("page index");
  return {};
}

void CodeCache::keep(u32 bytes, u64 removed) {
  makeshift_.begin = makeshift_.end = bytes;
  kept_ = bytes + Translator::kMaxSpecialCode;
  removed_ = removed;
  reset(0);
}

void CodeCache::reset(unsigned region) {
  regions_[region] = {hot_begin(region) + (region == 0 ? kept_ : 0), cold_begin(region)};
  store_.clear(region);
}

void CodeCache::take(const Block& block) {
  Region& r = regions_[current_];
  written_ += (block.end - r.hot) + (block.cold_end - r.cold);
  r.hot = block.end;
  r.cold = block.cold_end;
  if (r.hot > r.populated) populate();
  if (written_ < kLetGo) return;
  // What is written is rarely written again: unmapped, it counts once in what this process has resident.
  madvise(write_, bytes_, MADV_DONTNEED);
  written_ = 0;
}

// One system call in each mapping for many pages, in place of a fault for each. Where there is no such call
// (before Linux 5.14) the faults come.
void CodeCache::populate() {
  Region& r = regions_[current_];
  const u32 from = r.hot & ~static_cast<u32>(kPageSize - 1);
  const u32 end = std::min(from + kPopulate, hot_begin(current_) + hot_bytes_);
  r.populated = end;
  (void)madvise(write_ + from, end - from, MADV_POPULATE_WRITE);
  (void)madvise(exec_ + from, end - from, MADV_POPULATE_READ);
}

CodeCache::Evicted CodeCache::next_region() {
  current_ = (current_ + 1) % region_count_;
  Evicted evicted{current_, exec_base() + hot_begin(current_), exec_base() + hot_begin(current_) + hot_bytes_,
                  0};
  const auto& blocks = store_.blocks.in(current_);
  evicted.blocks = static_cast<unsigned>(blocks.size());
  for (std::size_t k = 0; k < blocks.size(); ++k)
    if (blocks[k].valid) remove(current_ << kRegionShift | static_cast<u32>(k));
  // Links within the region went with their targets; of these, other blocks must not know any more.
  const auto& links = store_.link_sites.in(current_);
  for (std::size_t k = 0; k < links.size(); ++k)
    if (links[k].linked != kNone) unlink(current_ << kRegionShift | static_cast<u32>(k));
  std::erase_if(observed_, [this](BlockId id) { return id >> kRegionShift == current_; });
  reset(current_);
  return evicted;
}

// --- the index

BlockId CodeCache::find(Gpa pc, BlockMode mode) const {
  const std::size_t mask = index_.size() - 1;
  const u64 h = hash(pc.value, mode.bits);
  for (std::size_t at = slot_of(h); index_[at].id != kNone; at = (at + 1) & mask) {
    if (index_[at].tag != tag_of(h)) continue;
    const Block& b = store_.blocks[index_[at].id];
    if (b.pc == pc && b.mode.bits == mode.bits) return index_[at].id;
  }
  return kNone;
}

void CodeCache::insert(BlockId id) {
  const std::size_t mask = index_.size() - 1;
  const u64 h = hash(id);
  std::size_t at = slot_of(h);
  while (index_[at].id != kNone) at = (at + 1) & mask;
  index_[at] = {tag_of(h), id};
}

void CodeCache::erase(BlockId id) {
  const std::size_t mask = index_.size() - 1;
  std::size_t hole = slot_of(hash(id));
  while (index_[hole].id != id) hole = (hole + 1) & mask;
  // An entry that was displaced over the hole moves into it, so that searches still end at the first free
  // entry.
  for (std::size_t at = (hole + 1) & mask; index_[at].id != kNone; at = (at + 1) & mask) {
    const std::size_t home = slot_of(hash(index_[at].id));
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    index_[hole] = index_[at];
    hole = at;
  }
  index_[hole] = {};
  --indexed_;
}

void CodeCache::resize_index(unsigned log2) {
  const std::vector<Entry> old = std::move(index_);
  index_.assign(std::size_t{1} << log2, {});
  index_shift_ = 64 - log2;
  for (const Entry& e : old)
    if (e.id != kNone) insert(e.id);
}

void CodeCache::note_page(u64 frame, BlockId id) {
  if (!page_index_[frame]) {
    pages_.emplace_back();
    page_frames_.push_back(frame);
    page_index_[frame] = static_cast<u32>(pages_.size());
  }
  pages_[page_index_[frame] - 1].push_back(id);
}

void CodeCache::add(BlockId id) {
  const Block& b = store_.blocks[id];
  if (2 * ++indexed_ > index_.size()) resize_index(64 - index_shift_ + 1);
  insert(id);
  if (b.mode.has(BlockMode::kObserved)) observed_.push_back(id);
  note_page(b.pc.frame(), id);
  if (b.crosses()) note_page(b.second_page.frame(), id);
}

void CodeCache::patch32(u32 at, u32 value) { std::memcpy(write_ + at, &value, 4); }

u32 CodeCache::site_before(u64 host_pc) const {
  const u32 offset = offset_of(host_pc);
  if (is_cold(offset)) return kNone;
  const unsigned region = offset / hot_bytes_;
  const auto& sites = store_.mem_sites.in(region);
  auto it =
      std::upper_bound(sites.begin(), sites.end(), offset, [](u32 o, const MemSite& s) { return o < s.hot; });
  if (it == sites.begin()) return kNone;
  return region << kRegionShift | static_cast<u32>(it - sites.begin() - 1);
}

void CodeCache::make_special_copies(u32 site, Translator& translator) {
  const u32 special = store_.mem_sites[site].special;
  if (special && special >= kept_) return;
  const unsigned region = site >> kRegionShift;
  CodeSpace space = space_in(region);
  if (space.cold_room < Translator::kMaxSpecialCode) {
    space.cold = makeshift_.begin;
    makeshift_ = translator.emit_special_copies(site, space);
    return;
  }
  store_.special_copies.add(region, translator.emit_special_copies(site, space));
  regions_[region].cold = store_.special_copies.in(region).back().end;
}

void CodeCache::make_branching(u32 id, Translator& translator) {
  const unsigned region = id >> kRegionShift;
  const CodeSpace space = space_in(region);
  if (space.cold_room < Translator::kMaxSpecialCode) return;
  const u32 stub = space.cold;
  regions_[region].cold = translator.emit_miss_stub(id, space);
  make_branch_to(store_.mem_sites[id], stub);
}

void CodeCache::make_leaving(u32 id, Translator& translator) {
  const unsigned region = id >> kRegionShift;
  const CodeSpace space = space_in(region);
  if (space.cold_room < Translator::kMaxSpecialCode) return;
  const u32 stub = space.cold;
  regions_[region].cold = translator.emit_leave_stub(id, space);
  make_branch_to(store_.mem_sites[id], stub);
}

void CodeCache::make_branch_to(MemSite& site, u32 stub) {
  u8* const at = write_ + site.check;
  const u8 over[3] = {0xe3, 5, 0xe9};  // jrcxz past the jmp
  std::memcpy(at, over, sizeof over);
  patch32(site.check + 3, stub - (site.check + 7));
  site.probe = 0;
}

void CodeCache::let_check_branch(BlockId id) {
  Block& b = store_.blocks[id];
  Translator::emit_branching_check(write_ + b.near_entry, b.in_parts());
  b.check_branches = true;
}

void CodeCache::set_link(u32 link, BlockId target) {
  LinkSite& l = store_.link_sites[link];
  Block& to = store_.blocks[target];
  l.linked = target;
  l.previous = kNone;
  l.next = to.incoming;
  if (l.next != kNone) store_.link_sites[l.next].previous = link;
  to.incoming = link;
  patch32(l.patch, to.near_entry - (l.patch + 4));
}

void CodeCache::unlink(u32 link) {
  LinkSite& l = store_.link_sites[link];
  if (l.previous != kNone)
    store_.link_sites[l.previous].next = l.next;
  else
    store_.blocks[l.linked].incoming = l.next;
  if (l.next != kNone) store_.link_sites[l.next].previous = l.previous;
  l.linked = kNone;
  patch32(l.patch, l.stub - (l.patch + 4));
}

void CodeCache::remove(BlockId id) {
  Block& b = store_.blocks[id];
  b.valid = false;
  // Jump caches and far links may still lead to its far entry.
  write_[b.far_entry] = 0xe9;  // jmp
  patch32(b.far_entry + 1, static_cast<u32>(removed_ - (exec_base() + b.far_entry + 5)));
  static_assert(Translator::kFarEntryBytes >= 5);
  while (b.incoming != kNone) unlink(b.incoming);
  erase(id);
  for (const Gpa page : {b.pc.page(), b.second_page}) {
    if (page == kNoPage) continue;
    auto& list = pages_[page_index_[page.frame()] - 1];
    list.erase(std::find(list.begin(), list.end(), id));
    if (list.empty()) ram_.flags(page.frame()) &= static_cast<u8>(~GuestRam::kCode);
  }
}

unsigned CodeCache::invalidate(Gpa at, u64 size) {
  const u64 frame = at.frame();
  if (!page_index_[frame]) {
    ram_.flags(frame) &= static_cast<u8>(~GuestRam::kCode);
    return 0;
  }
  std::vector<BlockId> hit;
  for (const BlockId id : pages_[page_index_[frame] - 1]) {
    const Block& b = store_.blocks[id];
    u64 from, to;  // the block's bytes within this page
    if (b.pc.frame() == frame) {
      from = b.pc.offset();
      to = std::min(from + b.bytes, kPageSize);
    } else {
      from = 0;
      to = b.pc.offset() + b.bytes - kPageSize;
    }
    if (at.offset() < to && from < at.offset() + size) hit.push_back(id);
  }
  for (const BlockId id : hit) remove(id);
  return static_cast<unsigned>(hit.size());
}

void CodeCache::remove_observed() {
  for (const BlockId id : observed_)
    if (store_.blocks[id].valid) remove(id);
  observed_.clear();
}

void CodeCache::clear() {
  for (const u64 frame : page_frames_) {
    page_index_[frame] = 0;
    ram_.flags(frame) &= static_cast<u8>(~GuestRam::kCode);
  }
  pages_.clear();
  page_frames_.clear();
  index_.clear();
  resize_index(kFirstIndex);
  indexed_ = 0;
  observed_.clear();
  for (unsigned r = 0; r < region_count_; ++r) reset(r);
  current_ = 0;
}

bool CodeCache::locate(u64 host_pc, BlockId* block, unsigned* insn) const {
  const u32 offset = offset_of(host_pc);
  if (is_cold(offset)) {
    const auto& copies = store_.special_copies.in((offset - cold_begin(0)) / cold_bytes_);
    auto it = std::upper_bound(copies.begin(), copies.end(), offset,
                               [](u32 o, const SpecialCopy& c) { return o < c.begin; });
    if (it == copies.begin() || offset >= (--it)->end) return false;
    *block = it->block;
    *insn = it->insn;
    return true;
  }
  if (offset < kept_) {
    *block = makeshift_.block;
    *insn = makeshift_.insn;
    return offset >= makeshift_.begin && offset < makeshift_.end;
  }
  const unsigned region = offset / hot_bytes_;
  const auto& blocks = store_.blocks.in(region);
  auto it = std::upper_bound(blocks.begin(), blocks.end(), offset,
                             [](u32 o, const Block& b) { return o < b.far_entry; });
  if (it == blocks.begin() || offset >= (--it)->end) return false;
  // The entries, in front of the first instruction, do not fault.
  const InsnPlace* const first = &store_.places[it->first_place];
  const InsnPlace* const place = std::upper_bound(first, first + it->count, offset - it->far_entry,
                                                  [](u32 o, const InsnPlace& p) { return o < p.host; });
  if (place == first) return false;
  *block = region << kRegionShift | static_cast<u32>(it - blocks.begin());
  *insn = static_cast<unsigned>(place - first - 1);
  return true;
}

}  // namespace deja
