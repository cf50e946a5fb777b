#include "execute/address_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/host_limits.h"
#include "decode/insn.h"

namespace deja {
namespace {

constexpr u32 kSeveral = ~u32{0};
constexpr u64 kPresentAccessed = 0x21;
constexpr std::size_t kMostListed = 1 << 17;
// More than there are slots, so that taking duplicates out makes room.
constexpr std::size_t kMostJumps = 2 * kJumpSlots, kMostFarLinks = 2 * kFarLinks;
constexpr std::size_t kMostDependents = 1 << 20;
constexpr u64 kManyFills = 4096;  // of about a quarter of the tables' pages

// Null: the host has no room for it.
template <class T>
T* map_zeroed(u64 bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<T*>(p);
}

// The last one that an instruction at `pc` can have.
u64 last_byte(u64 pc) { return pc + kMaxInsnBytes - 1; }

template <class T>
void keep_unique(std::vector<T>& list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

void reset_slot(ViewTables& t, u64 slot) { t.read_tag[slot] = t.write_tag[slot] = invalid_page_tag(slot); }

void reset_jump(AddressSpace::PerView& v, ViewTables& t, u64 slot) {
  t.jump_tag[slot] = invalid_jump_tag(slot);
  if (!v.second_ways[slot]) return;
  t.second_jump_tag[slot] = invalid_jump_tag(slot);
  v.second_ways[slot] = false;
}

// What is in the first way moves there.
void set_second_way(AddressSpace::PerView& v, ViewTables& t, u64 slot) {
  t.second_jump_tag[slot] = t.jump_tag[slot];
  t.second_jump_code[slot] = t.jump_code[slot];
  v.second_ways[slot] = true;
}

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

AddressSpaces::Table& AddressSpaces::table_for(u64 frame, u8 flag) {
  if (!(ram_.flags(frame) & flag)) {
    if (ram_.flags(frame) & GuestRam::kWriteCached) drop_writable(frame);
    ram_.flags(frame) |= flag;
  }
  if (table_index_[frame]) return tables_[table_index_[frame] - 1];
  u32 index;
  if (free_tables_.empty()) {
    index = static_cast<u32>(tables_.size());
    tables_.emplace_back();
  } else {
    index = free_tables_.back();
    free_tables_.pop_back();
  }
  table_index_[frame] = index + 1;
  Table& t = tables_[index];
  t.frame = frame;
  t.spaces = t.roots = 0;
  t.idle_writes = 0;
  t.records.clear();
  return t;
}

void AddressSpaces::release_if_unused(Table& t) {
  u8& flags = ram_.flags(t.frame);
  if (t.records.empty()) flags &= static_cast<u8>(~GuestRam::kPageTable);
  if (!t.spaces && !t.roots) flags &= static_cast<u8>(~GuestRam::kUpperTable);
  if (!t.records.empty() || t.spaces || t.roots) return;
  free_tables_.push_back(table_index_[t.frame] - 1);
  table_index_[t.frame] = 0;
}

void AddressSpaces::track(const Walk& w, AddressSpace& space, Record record) {
  const bool shared = record.space != space.index;
  for (unsigned i = 0; i < w.levels; ++i) {
    const Gpa at = w.entries[i];
    if (i == 0 && shared) {
      use_root_entry(space, at);
      continue;
    }
    if (i + 1u == w.levels && w.leaf_is_4k) {
      Table& t = table_for(at.frame(), GuestRam::kPageTable);
      record.entry = static_cast<u16>(at.offset() / 4);
      if (t.records.size() >= 2048) {
        for (const Record& r : t.records) drop(r);
        t.records.clear();
      }
      t.records.push_back(record);
    } else {
      table_for(at.frame(), GuestRam::kUpperTable).spaces |= 1u << record.space;
    }
  }
}

void AddressSpaces::install(AddressSpace& user, View view, Gva linear, const Walk& walk, bool writable) {
  if (ram_.flags(walk.page.frame()) & GuestRam::kReadWatched) return;
  const unsigned vi = static_cast<unsigned>(view);
  const u64 slot = page_slot(linear.value);
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
  const unsigned slot = exec_slot(linear.value);
  note_home(space, vi, linear.page().value, walk.page.frame());
  // A page displaced from its slot keeps its record: a change of its mapping still drops what depends on it.
  if (v.exec_tag[slot] == 0) v.execs.push_back(static_cast<u16>(slot));
  track(walk, user, {0, static_cast<u32>(slot), static_cast<u8>(space.index), static_cast<u8>(vi), true});
  v.exec_tag[slot] = linear.page().value | 1;
  v.exec_page[slot] = walk.page.value;
}

void AddressSpaces::install_jump(AddressSpace& user, View view, u64 pc, u64 code, u32 mode) {
  const unsigned vi = static_cast<unsigned>(view);
  set_jump_mode(user, view, mode);
  AddressSpace& space = owner(user, view);
  limit_lists(space, vi);
  ViewTables& t = user.tables->view[vi];
  auto& v = space.view[vi];
  const u64 slot = jump_slot(pc);
  if (t.jump_tag[slot] != u64{0} - pc) {
    note_dependent(space, vi, pc, false, static_cast<u32>(slot));
    if (t.jump_tag[slot] == invalid_jump_tag(slot))
      v.jumps.push_back(static_cast<u16>(slot));
    else
      set_second_way(v, t, slot);
  }
  t.jump_tag[slot] = u64{0} - pc;
  t.jump_code[slot] = code;
}

// Lists collect what is out of date, and duplicates.
void AddressSpaces::limit_lists(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  if (v.jumps.size() >= kMostJumps) keep_unique(v.jumps);
  if (v.far_links.size() >= kMostFarLinks) keep_unique(v.far_links);
  if (v.dependents.size() < kMostDependents) return;
  const ViewTables& t = space.tables->view[vi];
  const auto old = std::exchange(v.dependents, {});
  std::vector<std::pair<bool, u32>> kept;
  for (unsigned exec = 0; exec < AddressSpace::PerView::kExecSlots; ++exec) {
    const auto leads_here = [&](u64 tag) {
      return exec_slot(u64{0} - tag) == exec || exec_slot(last_byte(u64{0} - tag)) == exec;
    };
    const auto is_current = [&](const AddressSpace::PerView::Dependent& d) {
      if (d.far) return t.far_link[d.slot] != far_link_miss_;
      return leads_here(t.jump_tag[d.slot]) ||
             (v.second_ways[d.slot] && leads_here(t.second_jump_tag[d.slot]));
    };
    kept.clear();
    for (u32 n = std::exchange(v.first_dependent[exec], 0); n; n = old[n - 1].next)
      if (is_current(old[n - 1])) kept.emplace_back(old[n - 1].far, old[n - 1].slot);
    keep_unique(kept);
    for (const auto& [far, slot] : kept) add_dependent(v, exec, far, slot);
  }
  if (v.dependents.size() >= kMostDependents / 2) flush_jumps(space, vi);
}

void AddressSpaces::add_dependent(AddressSpace::PerView& v, unsigned exec, bool far, u32 slot) {
  v.dependents.push_back({far, slot, v.first_dependent[exec]});
  v.first_dependent[exec] = static_cast<u32>(v.dependents.size());
}

void AddressSpaces::note_dependent(AddressSpace& space, unsigned vi, u64 pc, bool far, u32 slot) {
  const unsigned first = exec_slot(pc), last = exec_slot(last_byte(pc));
  add_dependent(space.view[vi], first, far, slot);
  if (last != first) add_dependent(space.view[vi], last, far, slot);
}

void AddressSpaces::drop_dependents(AddressSpace& space, unsigned vi, unsigned exec) {
  auto& v = space.view[vi];
  ViewTables& t = space.tables->view[vi];
  for (u32 n = v.first_dependent[exec]; n; n = v.dependents[n - 1].next) {
    const u32 slot = v.dependents[n - 1].slot;
    if (v.dependents[n - 1].far)
      t.far_link[slot] = far_link_miss_;
    else
      reset_jump(v, t, slot);
  }
  v.first_dependent[exec] = 0;
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

void AddressSpaces::flush_users(Table& t) {
  for (unsigned i = 0; t.spaces >> i; ++i)
    if (t.spaces >> i & 1) flush(by_index(i));
  t.spaces = 0;
}

bool AddressSpaces::table_write(Gpa at, const void* data, u64 size) {
  const u64 frame = at.frame();
  if (!table_index_[frame]) {
    ram_.flags(frame) &= static_cast<u8>(~(GuestRam::kPageTable | GuestRam::kUpperTable));
    return false;
  }
  Table& t = tables_[table_index_[frame] - 1];
  const u8* old = ram_.host(at);
  if (data && std::memcmp(old, data, size) == 0) return false;
  bool dropped = t.roots && root_write(t, at.offset(), size);
  if (t.spaces) {
    // Entries whose A bit is clear have nothing derived from them. 4- and 8-byte entries alike have P and A
    // in their low byte; looking at every 4-byte unit errs on the safe side.
    bool used = data == nullptr;
    const u64 first = at.offset() & ~u64{3};
    for (u64 o = first; o < at.offset() + size && !used; o += 4) {
      const u8 low = *ram_.host(Gpa((frame << kPageShift) + (o & ~u64{7})));
      const u8 low4 = *ram_.host(Gpa((frame << kPageShift) + o));
      used = (low & kPresentAccessed) == kPresentAccessed || (low4 & kPresentAccessed) == kPresentAccessed;
    }
    if (used) {
      flush_users(t);
      dropped = true;
    }
  }
  if (!t.records.empty()) {
    // An 8-byte entry counts as touched when either half is; records name the unit it starts at.
    const u64 from = (at.offset() & ~u64{7}) / 4, to = (at.offset() + size + 3) / 4;
    for (std::size_t i = 0; i < t.records.size();) {
      if (t.records[i].entry >= from && t.records[i].entry < to) {
        drop(t.records[i]);
        t.records[i] = t.records.back();
        t.records.pop_back();
        dropped = true;
      } else {
        ++i;
      }
    }
  }
  if (!dropped && ++t.idle_writes >= 64) {
    // Probably no longer a page table: let go of it rather than take the slow path for ever.
    for (const Record& r : t.records) drop(r);
    t.records.clear();
    flush_users(t);
    leave_root(t);
    dropped = true;
  }
  if (dropped) t.idle_writes = 0;
  release_if_unused(t);
  return dropped;
}

u64& AddressSpaces::write_tag(u32 writer) {
  const u32 packed = writer - 1;
  return by_index(packed >> 24).tables->view[packed >> 20 & 15].write_tag[packed & (kTlbSlots - 1)];
}

void AddressSpaces::note_writer(u64 frame, u32 writer) {
  Writers& w = writers_[frame];
  if (!(ram_.flags(frame) & GuestRam::kWriteCached)) w = {};
  if (w.entry[0] == kSeveral) return;
  const u64 host = reinterpret_cast<u64>(ram_.base()) + (frame << kPageShift);
  u32* place = nullptr;
  for (u32& entry : w.entry) {
    if (entry == writer) return;
    if (place) continue;
    if (entry == 0) {
      place = &entry;
    } else {
      // Out of date when the slot has gone to another page.
      const u32 packed = entry - 1;
      const ViewTables& t = by_index(packed >> 24).tables->view[packed >> 20 & 15];
      const u64 tag = t.write_tag[packed & (kTlbSlots - 1)];
      if (tag == invalid_page_tag(packed & (kTlbSlots - 1)) ||
          t.addend[packed & (kTlbSlots - 1)] - tag != host)
        place = &entry;
    }
  }
  if (place)
    *place = writer;
  else
    w.entry[0] = kSeveral;
}

void AddressSpaces::drop_writable(u64 frame) {
  const Writers writers = writers_[frame];
  ram_.flags(frame) &= static_cast<u8>(~GuestRam::kWriteCached);
  writers_[frame] = {};
  if (writers.entry[0] != kSeveral) {
    // One that is out of date costs another page a TLB miss.
    for (const u32 writer : writers.entry)
      if (writer) write_tag(writer) = invalid_page_tag((writer - 1) & (kTlbSlots - 1));
    return;
  }
  const u64 host = reinterpret_cast<u64>(ram_.base()) + (frame << kPageShift);
  for_each_view([&](AddressSpace& s, unsigned vi) {
    ViewTables& t = s.tables->view[vi];
    for (const u32 slot : s.view[vi].writes)
      if (t.write_tag[slot] != invalid_page_tag(slot) && t.addend[slot] - t.write_tag[slot] == host)
        t.write_tag[slot] = invalid_page_tag(slot);
  });
}

void AddressSpaces::drop_all_writable() {
  for_each_view([&](AddressSpace& s, unsigned vi) {
    ViewTables& t = s.tables->view[vi];
    for (const u32 slot : s.view[vi].writes) {
      if (t.write_tag[slot] == invalid_page_tag(slot)) continue;
      const u64 host = t.addend[slot] - t.write_tag[slot];
      const u64 frame = (host - reinterpret_cast<u64>(ram_.base())) >> kPageShift;
      ram_.flags(frame) &= static_cast<u8>(~GuestRam::kWriteCached);
      writers_[frame] = {};
      t.write_tag[slot] = invalid_page_tag(slot);
    }
    s.view[vi].writes.clear();
  });
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

void AddressSpaces::flush_jumps(AddressSpace& space, unsigned vi) {
  flush_jump_cache(space, vi);
  flush_far_links(space, vi);
  space.view[vi].first_dependent.fill(0);
  space.view[vi].dependents.clear();
}

void AddressSpaces::flush_jump_cache(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  ViewTables& t = space.tables->view[vi];
  for (const u16 slot : v.jumps) reset_jump(v, t, slot);
  v.jumps.clear();
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

void AddressSpaces::flush_all_jumps() {
  for_each_view([&](AddressSpace& s, unsigned vi) { flush_jumps(s, vi); });
}

void AddressSpaces::drop_jumps_into(u64 begin, u64 end, u32 first, u32 last) {
  for_each_view([&](AddressSpace& s, unsigned vi) {
    ViewTables& t = s.tables->view[vi];
    std::erase_if(s.view[vi].jumps, [&](u16 slot) {
      const auto leads_there = [&](u64 code) { return code - begin < end - begin; };
      auto& v = s.view[vi];
      if (!leads_there(t.jump_code[slot]) && !(v.second_ways[slot] && leads_there(t.second_jump_code[slot])))
        return false;
      reset_jump(v, t, slot);
      return true;
    });
    std::erase_if(s.view[vi].far_links, [&](u32 slot) {
      if (t.far_link[slot] - begin >= end - begin && (slot < first || slot >= last)) return false;
      t.far_link[slot] = far_link_miss_;
      return true;
    });
  });
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
