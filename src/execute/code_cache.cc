#include "execute/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "base/check.h"

namespace deja {
namespace {
constexpr u64 kProbeReadable = (static_cast<u64>(kMaxSliceSteps) >> kCounterShift) + kPageSize;
constexpr u64 kProbeGuard = 64_KiB;
constexpr u32 kLetGo = 4_MiB;
}  // namespace

CodeCache::CodeCache(GuestRam& ram, u64 bytes)
    : ram_(ram), bytes_(bytes), cold_(static_cast<u32>(bytes / 2)), buckets_(u64{1} << 18, kNone) {}

CodeCache::~CodeCache() {
  if (context_) context_->~ExecContext();
  if (region_) munmap(region_, region_bytes_);
  if (write_) munmap(write_, bytes_);
  if (probe_map_) munmap(probe_map_, kProbeGuard + kProbeReadable);
  if (page_index_) munmap(page_index_, ram_.frames() * 4);
  if (fd_ >= 0) close(fd_);
}

Status CodeCache::init() {
  const auto failed = [](const char* what) {
    return make_error("cannot set up the code cache: {}: {}", what, strerror(errno));
  };
  fd_ = memfd_create("deja-code", MFD_CLOEXEC);
  if (fd_ < 0) return failed("memfd_create");
  if (ftruncate(fd_, static_cast<off_t>(bytes_))) return failed("ftruncate");
  write_ = static_cast<u8*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
  if (write_ == MAP_FAILED) return write_ = nullptr, failed("mapping it writable");
  const u64 context_bytes = (sizeof(ExecContext) + kPageSize - 1) & ~(kPageSize - 1);
  region_bytes_ = context_bytes + bytes_;
  region_ = static_cast<u8*>(
      mmap(nullptr, region_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (region_ == MAP_FAILED) return region_ = nullptr, failed("reserving address space");
  context_ = new (region_) ExecContext;
  exec_ = region_ + context_bytes;
  if (mmap(exec_, bytes_, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd_, 0) == MAP_FAILED)
    return failed("mapping it executable (is the memory file system mounted noexec?)");
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

void CodeCache::take(const Block& block) {
  written_ += (block.end - hot_) + (block.cold_end - cold_);
  hot_ = block.end;
  cold_ = block.cold_end;
  if (written_ < kLetGo) return;
  // What is written is rarely written again: unmapped, it counts once in what this process has resident.
  madvise(write_, bytes_, MADV_DONTNEED);
  written_ = 0;
}

BlockId CodeCache::find(Gpa pc, BlockMode mode) const {
  for (BlockId id = buckets_[hash(pc, mode)]; id != kNone; id = chain_[id].next)
    if (chain_[id].pc == pc.value && chain_[id].mode == mode.bits) return id;
  return kNone;
}

void CodeCache::add(BlockId id) {
  Block& b = store_.blocks[id];
  chain_.resize(store_.blocks.size());
  BlockId& bucket = buckets_[hash(b.pc, b.mode)];
  chain_[id] = {b.pc.value, b.mode.bits, bucket};
  bucket = id;
  if (b.mode.has(BlockMode::kObserved)) observed_.push_back(id);
  for (const Gpa page : {b.pc.page(), b.second_page}) {
    if (page.value == ~u64{0}) continue;
    const u64 frame = page.frame();
    if (!page_index_[frame]) {
      pages_.emplace_back();
      page_frames_.push_back(frame);
      page_index_[frame] = static_cast<u32>(pages_.size());
    }
    pages_[page_index_[frame] - 1].push_back(id);
  }
}

void CodeCache::patch32(u32 at, u32 value) { std::memcpy(write_ + at, &value, 4); }

u32 CodeCache::site_before(u64 host_pc) const {
  const u32 offset = static_cast<u32>(host_pc - exec_base());
  const auto& sites = store_.mem_sites;
  auto it =
      std::upper_bound(sites.begin(), sites.end(), offset, [](u32 o, const MemSite& s) { return o < s.hot; });
  return it == sites.begin() ? kNone : static_cast<u32>(it - sites.begin() - 1);
}

void CodeCache::make_branching(MemSite& site) {
  u8* const at = write_ + site.probe;
  const u8 over[3] = {0xe3, 5, 0xe9};  // jrcxz past the jmp
  std::memcpy(at, over, sizeof over);
  patch32(site.probe + 3, site.miss - (site.probe + 7));
  site.probe = 0;
}

void CodeCache::set_link(u32 link, BlockId target) {
  LinkSite& l = store_.link_sites[link];
  l.linked = target;
  patch32(l.patch, store_.blocks[target].near_entry - (l.patch + 4));
  store_.blocks[target].incoming.push_back(link);
}

void CodeCache::remove(BlockId id) {
  Block& b = store_.blocks[id];
  b.valid = false;
  // Jump caches may still lead to its far entry, where r9 is the linear PC: as the dispatcher wants it.
  u8* const entry = write_ + b.far_entry;
  entry[0] = 0xb9;  // mov ecx, kNone
  patch32(b.far_entry + 1, kNone);
  entry[5] = 0xe9;  // jmp dispatch
  patch32(b.far_entry + 6, static_cast<u32>(dispatch_ - (exec_base() + b.far_entry + 10)));
  static_assert(Translator::kFarEntryBytes >= 10);
  for (const u32 link : b.incoming) {
    LinkSite& l = store_.link_sites[link];
    if (l.linked != id) continue;
    l.linked = kNone;
    patch32(l.patch, l.stub - (l.patch + 4));
  }
  b.incoming.clear();
  BlockId* at = &buckets_[hash(b.pc, b.mode)];
  while (*at != id) at = &chain_[*at].next;
  *at = chain_[id].next;
  for (const Gpa page : {b.pc.page(), b.second_page}) {
    if (page.value == ~u64{0}) continue;
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
  std::fill(buckets_.begin(), buckets_.end(), kNone);
  chain_.clear();
  observed_.clear();
  store_.clear();
  hot_ = kept_;
  cold_ = static_cast<u32>(bytes_ / 2);
}

bool CodeCache::locate(u64 host_pc, BlockId* block, unsigned* insn) const {
  const u32 offset = static_cast<u32>(host_pc - exec_base());
  // Blocks are in the order of their code, main and cold; a block without cold code begins where the next
  // one's does.
  const bool cold = offset >= bytes_ / 2;
  auto it =
      std::upper_bound(store_.blocks.begin(), store_.blocks.end(), offset,
                       [cold](u32 o, const Block& b) { return o < (cold ? b.cold_begin : b.far_entry); });
  if (it == store_.blocks.begin()) return false;
  --it;
  if (offset >= (cold ? it->cold_end : it->end)) return false;
  auto m = std::upper_bound(it->marks.begin(), it->marks.end(), offset,
                            [](u32 o, const Mark& mk) { return o < mk.host_offset; });
  if (m == it->marks.begin()) return false;
  *block = static_cast<BlockId>(it - store_.blocks.begin());
  *insn = std::prev(m)->insn;
  return true;
}

}  // namespace deja
