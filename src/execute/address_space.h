// Software TLBs and jump caches, one set per guest address space, kept coherent with the guest's page tables.
//
// Coherence (docs/determinism.md, rule 3): an entry exists only while every paging-structure entry it was derived
// from is unchanged. The pages that hold those structures are marked in GuestRam::flags, so that writes to them
// come here and drop what depends on them. CR3 writes and INVLPG therefore drop nothing.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "execute/page_walk.h"
#include "translate/exec_context.h"

namespace deja {

struct AddressSpace {
  PagingKey key;
  AddressSpaceTables* tables = nullptr;  // mapped lazily, zero = invalid but for two slots a table
  u64 last_used = 0;
  unsigned index = 0;
  struct PerView {
    std::vector<u16> pages;   // slots of read_tag/write_tag in use
    std::vector<u16> writes;  // slots whose write_tag is or was valid
    std::vector<u16> jumps;
    // Pages that code was fetched from: direct mapped by virtual page number. Tag: linear page | 1.
    static constexpr unsigned kExecSlots = 4096;
    std::array<u64, kExecSlots> exec_tag{};
    std::array<u64, kExecSlots> exec_page{};
    std::vector<u16> execs;
  } view[kViews];
};

class AddressSpaces {
 public:
  static constexpr unsigned kSpaces = 16;

  explicit AddressSpaces(GuestRam& ram);
  ~AddressSpaces();

  // The address space for this paging state; the least recently used one is recycled, and *recycled counted up.
  AddressSpace& select(const PagingKey& key, u64* recycled);

  // Makes `linear`'s page reachable for inline reads, and writes when `writable`. Pages whose
  // reads are watched stay out.
  void install(AddressSpace& space, View view, Gva linear, const Walk& walk, bool writable);
  // Remembers a fetched-from page.
  void install_exec(AddressSpace& space, View view, Gva linear, const Walk& walk);
  bool find_exec(AddressSpace& space, View view, Gva linear, Gpa* page) const {
    const auto& v = space.view[static_cast<unsigned>(view)];
    const unsigned slot = linear.value >> kPageShift & (AddressSpace::PerView::kExecSlots - 1);
    if (v.exec_tag[slot] != (linear.page().value | 1)) return false;
    *page = Gpa(v.exec_page[slot]);
    return true;
  }
  void install_jump(AddressSpace& space, View view, u64 pc, u64 code, u32 mode);
  void set_jump_mode(AddressSpace& space, View view, u32 mode) {
    u32& now = space.tables->jump_mode[static_cast<unsigned>(view)];
    if (now == mode) return;
    flush_jumps(space, static_cast<unsigned>(view));
    now = mode;
  }

  // [at, at+size) inside one page marked kPageTable or kUpperTable is about to become `data` (nullptr: has
  // changed already, old content unknown). Returns whether anything was dropped.
  bool table_write(Gpa at, const void* data, u64 size);
  // No inline write to this frame may succeed any more.
  void drop_writable(u64 frame);
  void drop_all_writable();
  void flush_all_jumps();
  void flush_all();

 private:
  struct Record {  // a cached translation derived from one leaf entry
    u16 entry;     // index of the leaf entry in its page, in units of 4 bytes
    u16 slot;
    u8 space;
    u8 view;
    bool exec;
  };
  struct Table {
    u64 frame = 0;
    u32 spaces = 0;  // address spaces that used the page as an upper-level table
    u32 idle_writes = 0;
    std::vector<Record> records;
  };

  Table& table_for(u64 frame, u8 flag);
  void release_if_unused(Table& t);
  void track(const Walk& walk, Record record);
  void drop(const Record& r);
  u64& write_tag(u32 writer);  // of an entry of Writers
  void note_writer(u64 frame, u32 writer);
  void flush(AddressSpace& space);
  void flush_jumps(AddressSpace& space, unsigned view);

  GuestRam& ram_;
  std::vector<std::unique_ptr<AddressSpace>> spaces_;
  u64 clock_ = 0;
  u32* table_index_ = nullptr;  // per frame: index into tables_ plus one
  // Where the frame may be write-cached.
  static constexpr unsigned kWriters = 4;  // user, kernel, and the other side of a fork
  struct Writers {
    // 0: free; else space << 20 | view << 16 | slot, plus one, which may be out of date. The first is kSeveral when
    // there were more.
    u32 entry[kWriters];
  };
  Writers* writers_ = nullptr;  // per frame
  u64 frames_ = 0;
  std::vector<Table> tables_;
  std::vector<u32> free_tables_;
};

}  // namespace deja
