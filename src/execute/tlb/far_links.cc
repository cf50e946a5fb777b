// Direct jumps to other pages: one slot for each site in each view (ViewTables::far_link), through which the
// jump is an indirect one of the host's.
//
// A slot depends on nothing but the linear page that the block runs in, and a block, known by its physical
// address, runs in only one as a rule: each slot is filled with what the first jump found. The exceptions are
// noticed (`homes`): when code of a page is fetched from a second linear page of the same view, all fetches
// are forgotten, jump cache and far links with them, and found again one by one. Where that has happened some
// times, far links lead through the jump cache. All else that ends a far link also ends entries of the jump
// cache: a fetched page's mapping has changed, or the target is gone.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/host_limits.h"
#include "execute/tlb/address_space.h"

namespace deja {
namespace {

constexpr u64 kBytes = sizeof(ViewTables::far_link);
static_assert(offsetof(ViewTables, far_link) % kPageSize == 0 && kBytes % kPageSize == 0);
// A page whose mapping is gone may still be listed, so the first conflicts need not be any.
constexpr unsigned kMostConflicts = 8;

}  // namespace

Status AddressSpaces::use_far_links(u64 miss, const u64 (&jump)[kViews]) {
  DEJA_CHECK(spaces_.empty());
  far_link_miss_ = miss;
  std::copy(jump, jump + kViews, far_link_jump_.begin());
  const auto failed = [](const char* what) {
    return make_error("cannot set up the table of far links: {}: {}", what, host_error(errno));
  };
  far_links_fd_ = memfd_create("deja-far-links", MFD_CLOEXEC);
  if (far_links_fd_ < 0) return failed("memfd_create");
  if (ftruncate(far_links_fd_, static_cast<off_t>(kBytes))) return failed("ftruncate");
  void* const at = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, far_links_fd_, 0);
  if (at == MAP_FAILED) return failed("mmap");
  std::fill_n(static_cast<u64*>(at), kFarLinks, miss);
  munmap(at, kBytes);
  return {};
}

// Most slots are never written: views have those in common.
void AddressSpaces::map_far_links(ViewTables& t) {
  if (far_links_fd_ < 0) return;
  DEJA_CHECK(mmap(t.far_link, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, far_links_fd_, 0) !=
             MAP_FAILED);
}

void AddressSpaces::note_home(AddressSpace& space, unsigned vi, Gva page, u64 frame) {
  auto& v = space.view[vi];
  const auto [home, fresh] = v.homes.try_emplace(frame, page);
  if (fresh || home->second == page || v.home_conflicts == kMostConflicts) return;
  ++v.home_conflicts;
  forget_fetches(space, vi);
  v.homes.emplace(frame, page);
}

void AddressSpaces::forget_fetches(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  for (const u16 slot : v.execs) v.exec_tag[slot] = 0;
  v.execs.clear();
  v.homes.clear();
  flush_jumps(space, vi);
}

// The page that was fetched from is fetched anew before code in it is entered again.
void AddressSpaces::forget_home(AddressSpace::PerView& v, unsigned slot) {
  if (!v.exec_tag[slot]) return;
  const auto home = v.homes.find(v.exec_page[slot] >> kPageShift);
  if (home != v.homes.end() && home->second.value == (v.exec_tag[slot] & ~u64{1})) v.homes.erase(home);
}

void AddressSpaces::install_far_link(AddressSpace& user, View view, u32 slot, Gva page, u64 frame, Gva pc,
                                     u64 code) {
  const unsigned vi = static_cast<unsigned>(view);
  AddressSpace& space = owner(user, view);
  auto& v = space.view[vi];
  // The code that runs may be older than the list. When it has jumped into another mapping of its own frame,
  // that is the frame's home now, and would take this link for one of its own.
  const bool at_home = v.homes.try_emplace(frame, page).first->second == page;
  if (!at_home && v.home_conflicts != kMostConflicts) return;
  limit_lists(space, vi);
  note_dependent(space, vi, page, true, slot);
  note_dependent(space, vi, pc, true, slot);
  u64& link = space.tables->view[vi].far_link[slot];
  if (link == far_link_miss_) v.far_links.push_back(slot);
  link = v.home_conflicts == kMostConflicts ? far_link_jump_[vi] : code;
}

void AddressSpaces::flush_far_links(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  for (const u32 slot : v.far_links) space.tables->view[vi].far_link[slot] = far_link_miss_;
  v.far_links.clear();
}

void AddressSpaces::give_up_far_links() {
  for_each_view([&](AddressSpace& s, unsigned vi) {
    s.view[vi].home_conflicts = kMostConflicts;
    flush_far_links(s, vi);
  });
}

}  // namespace deja
