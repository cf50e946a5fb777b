// How address spaces share the view of supervisor code: who may, and what ends it.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "execute/tlb/address_space.h"

namespace deja {
namespace {

constexpr unsigned kView = static_cast<unsigned>(View::kernel_smap);
constexpr unsigned kFirstUpper = 256;  // entry of a top-level table

}  // namespace

u64 AddressSpaces::root_entry(const AddressSpace& space, unsigned index) const {
  u64 value = 0;
  ram_.read(Gpa(space.key.cr3 + (kFirstUpper + index) * 8), &value, sizeof value);
  return value;
}

bool AddressSpaces::fits(const AddressSpace& space, const KernelHalf& half) const {
  if (half.key.bits != space.key.bits) return false;
  for (unsigned i = 0; i < half.used.size(); ++i)
    if (half.used[i] && root_entry(space, i) != half.value[i]) return false;
  return true;
}

KernelHalf* AddressSpaces::make_half(const PagingKey& key) {
  if (halves_.size() == kHalves) return nullptr;
  auto half = std::make_unique<KernelHalf>();
  half->fd = memfd_create("deja-kernel-tlb", MFD_CLOEXEC);
  if (half->fd < 0) return nullptr;
  void* reserved = MAP_FAILED;
  if (ftruncate(half->fd, sizeof(ViewTables)) == 0)
    reserved = mmap(nullptr, sizeof(AddressSpaceTables), PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return close(half->fd), nullptr;
  half->tables = static_cast<AddressSpaceTables*>(reserved);
  DEJA_CHECK(mmap(&half->tables->view[kView], sizeof(ViewTables), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_FIXED, half->fd, 0) != MAP_FAILED);
  prepare_view(half->tables->view[kView]);
  std::fill_n(half->tables->view[kView].far_link, kFarLinks, far_link_miss_);
  half->index = kSpaces + static_cast<unsigned>(halves_.size());
  half->key.bits = key.bits;
  halves_.push_back(std::move(half));
  return halves_.back().get();
}

void AddressSpaces::join(AddressSpace& space) {
  constexpr u32 kNeeded = PagingKey::kPaging | PagingKey::kLong | PagingKey::kSmap;
  const bool may = share_kernel_ && (space.key.bits & kNeeded) == kNeeded && !space.keeps_apart &&
                   ram_.contains(Gpa(space.key.cr3), kPageSize);
  KernelHalf* half = nullptr;
  if (may) {
    for (auto& h : halves_)
      if (fits(space, *h)) half = h.get();
    // One that nobody is in any more fits all.
    for (auto& h : halves_) {
      if (half || h->key.bits != space.key.bits) continue;
      bool empty = true;
      for (auto& s : spaces_) empty = empty && s->kernel != h.get();
      if (!empty) continue;
      flush_view(*h, kView);
      h->used.reset();
      half = h.get();
    }
    if (!half) half = make_half(space.key);
  }
  if (!half) {
    if (space.mapped) map_private_view(space);
    return;
  }
  flush_view(space, kView);
  if (space.mapped != half) {
    DEJA_CHECK(mmap(&space.tables->view[kView], sizeof(ViewTables), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED, half->fd, 0) != MAP_FAILED);
    space.mapped = half;
  }
  space.kernel = half;
  table_for(space.key.cr3 >> kPageShift, GuestRam::kUpperTable).roots |= 1u << space.index;
}

void AddressSpaces::map_private_view(AddressSpace& space) {
  DEJA_CHECK(mmap(&space.tables->view[kView], sizeof(ViewTables), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED);
  prepare_view(space.tables->view[kView]);
  map_far_links(space.tables->view[kView]);
  space.mapped = nullptr;
}

void AddressSpaces::leave(AddressSpace& space) {
  Table& root = tables_[table_index_[space.key.cr3 >> kPageShift] - 1];
  part(space, root);
  release_if_unused(root);
}

void AddressSpaces::part(AddressSpace& space, Table& root) {
  root.roots &= ~(1u << space.index);
  space.kernel = nullptr;
  // Another's comes back to it, or gets a view of its own, when it is selected.
  if (&space == current_) map_private_view(space);
}

void AddressSpaces::use_root_entry(AddressSpace& member, Gpa entry) {
  KernelHalf& half = *member.kernel;
  const unsigned index = static_cast<unsigned>(entry.offset() / 8) - kFirstUpper;
  if (half.used[index]) return;
  half.used[index] = true;
  half.value[index] = root_entry(member, index);
  for (auto& s : spaces_)
    if (s->kernel == &half && root_entry(*s, index) != half.value[index]) leave(*s);
}

void AddressSpaces::leave_root(Table& t) {
  for (auto& s : spaces_)
    if (t.roots >> s->index & 1) part(*s, t);
}

bool AddressSpaces::root_write(Table& t, u64 from, u64 size) {
  bool left = false;
  for (auto& s : spaces_) {
    if (!(t.roots >> s->index & 1)) continue;
    for (u64 i = std::max<u64>(from / 8, kFirstUpper); i < (from + size + 7) / 8; ++i) {
      if (!s->kernel->used[i - kFirstUpper]) continue;
      part(*s, t);
      left = true;
      break;
    }
  }
  return left;
}

}  // namespace deja
