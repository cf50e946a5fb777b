// Which TLB entries let a frame be written to inline, so that they can be found when that has to end.
#include "execute/tlb/address_space.h"

namespace deja {
namespace {

constexpr u32 kSeveral = ~u32{0};

}  // namespace

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

}  // namespace deja
