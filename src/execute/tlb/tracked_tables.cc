// The guest's paging structures: which of their entries TLBs depend on, and what goes when one changes.
#include <cstring>

#include "execute/tlb/address_space.h"

namespace deja {
namespace {

constexpr u64 kPresentAccessed = 0x21;
// A table that is written to so many times in a row without any effect is probably none any more.
constexpr u32 kMostIdleWrites = 64;
constexpr std::size_t kMostRecords = 2048;  // of a table

}  // namespace

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
      if (t.records.size() >= kMostRecords) {
        for (const Record& r : t.records) drop(r);
        t.records.clear();
      }
      t.records.push_back(record);
    } else {
      table_for(at.frame(), GuestRam::kUpperTable).spaces |= 1u << record.space;
    }
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
  if (!dropped && ++t.idle_writes >= kMostIdleWrites) {
    // Let go of it rather than take the slow path for ever.
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

}  // namespace deja
