#include "execute/tlb/address_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "base/host_limits.h"

namespace deja {
namespace {

constexpr std::size_t kMostListed = 1 << 17;
constexpr u64 kManyFills = 4096;  // of about a quarter of the tables' pages

// Null: the host has no room for it.
template <class T>
T* map_zeroed(u64 bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<T*>(p);
}

void reset_slot(ViewTables& t, u64 slot) { t.read_tag[slot] = t.write_tag[slot] = invalid_page_tag(slot); }

}  // namespace

AddressSpaces::AddressSpaces(GuestRam& ram) : ram_(ram), frames_(ram.frames()) {}

Status AddressSpaces::init() {
  table_index_ = map_zeroed<u32>(frames_ * 4);
  writers_ = map_zeroed<Writers>(frames_ * sizeof(Writers));
  // One address space is needed, the others are to be had as far as there is room.
  spare_ = map_zeroed<AddressSpaceTables>(sizeof(AddressSpaceTables));
  if (table_index_ && writers_ && spare_) return {};
  return make_error("no room for the tables of the guest's memory: {}", host_error(errno));
}

AddressSpaces::~AddressSpaces() {
  for (auto& s : spaces_) munmap(s->tables, sizeof(AddressSpaceTables));
  for (auto& h : halves_) {
    munmap(h->tables, sizeof(AddressSpaceTables));
    close(h->fd);
  }
  if (far_links_fd_ >= 0) close(far_links_fd_);
  if (spare_) munmap(spare_, sizeof(AddressSpaceTables));
  if (table_index_) munmap(table_index_, frames_ * 4);
  if (writers_) munmap(writers_, frames_ * sizeof(Writers));
}

void AddressSpaces::prepare_view(ViewTables& t) {
  reset_slot(t, 0);
  reset_slot(t, kTlbSlots - 1);
  t.jump_tag[0] = t.second_jump_tag[0] = invalid_jump_tag(0);
}

// Null: there are as many as there can be. Where the host limits memory there are fewer, which nobody can
// see: recycling one forgets what is computed anew.
AddressSpaceTables* AddressSpaces::free_tables() {
  if (spaces_.size() >= most_spaces_) return nullptr;
  if (spare_) return std::exchange(spare_, nullptr);
  auto* const tables = map_zeroed<AddressSpaceTables>(sizeof(AddressSpaceTables));
  if (!tables) most_spaces_ = static_cast<unsigned>(spaces_.size());
  return tables;
}

AddressSpace& AddressSpaces::select(const PagingKey& key, u64* recycled) {
  AddressSpace* oldest = nullptr;
  for (auto& s : spaces_) {
    if (s->key == key) {
      s->last_used = ++clock_;
      current_ = s.get();
      if (!s->kernel) join(*s);
      return *s;
    }
    if (!oldest || s->last_used < oldest->last_used) oldest = s.get();
  }
  if (AddressSpaceTables* const tables = free_tables()) {
    auto fresh = std::make_unique<AddressSpace>();
    fresh->tables = tables;
    fresh->index = static_cast<unsigned>(spaces_.size());
    for (ViewTables& t : fresh->tables->view) prepare_view(t), map_far_links(t);
    oldest = fresh.get();
    spaces_.push_back(std::move(fresh));
  } else {
    flush(*oldest);
    release_memory(*oldest);
    if (oldest->kernel) leave(*oldest);
    ++*recycled;
  }
  oldest->key = key;
  oldest->keeps_apart = false;
  oldest->last_used = ++clock_;
  current_ = oldest;
  join(*oldest);
  return *oldest;
}

// The tables of an address space that has touched much would stay resident for ever.
void AddressSpaces::release_memory(AddressSpace& space) {
  if (space.fills < kManyFills) return;
  space.fills = 0;
  for (unsigned vi = 0; vi < kViews; ++vi) {
    if (&owner(space, static_cast<View>(vi)) != &space) continue;
    madvise(&space.tables->view[vi], sizeof(ViewTables), MADV_DONTNEED);
    prepare_view(space.tables->view[vi]);
  }
}

void AddressSpaces::install(AddressSpace& user, View view, Gva linear, const Walk& walk, bool writable) {
  if (ram_.flags(walk.page.frame()) & GuestRam::kReadWatched) return;
  const unsigned vi = static_cast<unsigned>(view);
  const u64 slot = page_slot(linear);
  keep_apart_for(user, view, linear);
  AddressSpace& space = owner(user, view);
  // The lists of slots in use collect duplicates; emptied tables start them anew.
  if (space.view[vi].pages.size() >= kMostListed || space.view[vi].execs.size() >= kMostListed) flush(space);
  if (space.view[vi].writes.size() >= kMostListed) drop_all_writable();
  ++space.fills;
  track(walk, user, {0, static_cast<u32>(slot), static_cast<u8>(space.index), static_cast<u8>(vi), false});
  ViewTables& t = space.tables->view[vi];
  auto& v = space.view[vi];
  const u64 tag = u64{0} - linear.page().value;
  if (t.read_tag[slot] == invalid_page_tag(slot)) v.pages.push_back(static_cast<u32>(slot));
  t.read_tag[slot] = tag;
  t.addend[slot] = reinterpret_cast<u64>(ram_.host(walk.page)) - linear.page().value;
  t.write_tag[slot] = invalid_page_tag(slot);
  // The tables themselves may just have become tracked: look at the flags only now.
  const u64 frame = walk.page.frame();
  if (!writable || (ram_.flags(frame) & GuestRam::kTracked)) return;
  ram_.mark_dirty(frame);
  t.write_tag[slot] = tag;
  v.writes.push_back(static_cast<u32>(slot));
  note_writer(frame, (space.index << 24 | vi << 20 | static_cast<u32>(slot)) + 1);
  ram_.flags(frame) |= GuestRam::kWriteCached;
}

void AddressSpaces::install_exec(AddressSpace& user, View view, Gva linear, const Walk& walk) {
  const unsigned vi = static_cast<unsigned>(view);
  keep_apart_for(user, view, linear);
  AddressSpace& space = owner(user, view);
  auto& v = space.view[vi];
  const unsigned slot = exec_slot(linear);
  note_home(space, vi, linear.page(), walk.page.frame());
  // A page displaced from its slot keeps its record: a change of its mapping still drops what depends on it.
  if (v.exec_tag[slot] == 0) v.execs.push_back(static_cast<u16>(slot));
  track(walk, user, {0, static_cast<u32>(slot), static_cast<u8>(space.index), static_cast<u8>(vi), true});
  v.exec_tag[slot] = linear.page().value | 1;
  v.exec_page[slot] = walk.page.value;
}

void AddressSpaces::drop(const Record& r) {
  AddressSpace& space = by_index(r.space);
  auto& v = space.view[r.view];
  if (r.exec) {
    forget_home(v, r.slot);
    v.exec_tag[r.slot] = 0;
    drop_dependents(space, r.view, r.slot);
  } else {
    reset_slot(space.tables->view[r.view], r.slot);
  }
}

void AddressSpaces::drop_absent() {
  const u64 base = reinterpret_cast<u64>(ram_.base());
  for_each_view([&](AddressSpace& s, unsigned vi) {
    ViewTables& t = s.tables->view[vi];
    for (const u32 slot : s.view[vi].pages) {
      if (t.read_tag[slot] == invalid_page_tag(slot)) continue;
      if (ram_.is_absent((t.addend[slot] - t.read_tag[slot] - base) >> kPageShift)) reset_slot(t, slot);
    }
  });
}

void AddressSpaces::flush_view(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  for (const u32 slot : v.pages) reset_slot(space.tables->view[vi], slot);
  v.pages.clear();
  v.writes.clear();
  v.home_conflicts = 0;
  forget_fetches(space, vi);
}

void AddressSpaces::flush(AddressSpace& space) {
  for (unsigned vi = 0; vi < kViews; ++vi)
    if (&owner(space, static_cast<View>(vi)) == &space) flush_view(space, vi);
}

void AddressSpaces::flush_all() {
  for_each_view([&](AddressSpace& s, unsigned vi) { flush_view(s, vi); });
  for (auto& s : spaces_)
    if (s->kernel) leave(*s);
  for (Table& t : tables_) {
    if (!table_index_[t.frame] || &tables_[table_index_[t.frame] - 1] != &t) continue;
    t.records.clear();
    t.spaces = 0;
    release_if_unused(t);
  }
}

}  // namespace deja
