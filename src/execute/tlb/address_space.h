// Software TLBs and jump caches, one set per guest address space, kept coherent with the guest's page tables.
//
// Coherence (docs/determinism.md, rule 3): an entry exists only while every paging-structure entry it was
// derived from is unchanged. The pages that hold those structures are marked in GuestRam::flags, so that
// writes to them come here and drop what depends on them. CR3 writes and INVLPG therefore drop nothing.
#pragma once

#include <array>
#include <bitset>
#include <map>
#include <memory>
#include <vector>

#include "base/result.h"
#include "guest/page_walk.h"
#include "translate/exec_context.h"

namespace deja {

struct AddressSpace {
  PagingKey key;
  AddressSpaceTables* tables = nullptr;  // mapped lazily, zero = invalid but for two slots a table
  u64 last_used = 0;
  unsigned index = 0;
  // The kernel half whose view kernel_smap this space uses in place of one of its own; nullptr: it has its
  // own.
  struct KernelHalf* kernel = nullptr;
  struct KernelHalf* mapped = nullptr;  // …and whose stands at tables->view[kernel_smap], in use or not
  u64 fills = 0;                        // TLB entries made since its memory was last released
  bool keeps_apart = false;             // has supervisor pages in the lower half, which is never shared
  struct PerView {
    std::vector<u32> pages;   // slots of read_tag/write_tag in use
    std::vector<u32> writes;  // slots whose write_tag is or was valid
    std::vector<u16> jumps;   // slots of the jump cache in use; some are free again, or listed twice
    std::bitset<kJumpSlots>
        second_ways;  // of these, whose second way may be in use: few pages of it are touched
    // Pages that code was fetched from: direct mapped by virtual page number. Tag: linear page | 1.
    static constexpr unsigned kExecSlots = 4096;
    std::array<u64, kExecSlots> exec_tag{};
    std::array<u64, kExecSlots> exec_page{};
    std::vector<u16> execs;
    std::vector<u32> far_links;  // slots in use, in the same sense
    // What leads to, or stands in, code fetched from the pages of each such slot: lists in `dependents`,
    // numbered from 1. Out of date ones cost another page a miss.
    struct Dependent {
      bool far;  // of far_link; else of the jump cache
      u32 slot;  // there
      u32 next;
    };
    std::array<u32, kExecSlots> first_dependent{};
    std::vector<Dependent> dependents;
    // The linear page that code was fetched from, by the frame of its physical page (far_links.cc).
    std::map<u64, Gva> homes;
    unsigned home_conflicts = 0;
  } view[kViews];
};

// The TLB and jump cache of supervisor code for address spaces whose upper halves are the same
// (kernel_half.cc). It stands where an address space stands, with one view: kernel_smap. Operating systems
// map their kernel alike in all processes, so a new process starts warm, and a change of address space leaves
// the kernel's entries in place.
//
// What makes it exact: everything below the top-level table is memory that the members share. Of the
// top-level table, which each has for itself, an entry may be used (`used`) only while it is the same,
// accessed bit included, in every member; the tables are tracked, and a store that makes one differ makes its
// owner leave.
struct KernelHalf : AddressSpace {
  int fd = -1;                   // memory of the view
  std::bitset<256> used;         // entries of the upper half of the top-level table, from 256 on
  std::array<u64, 256> value{};  // of those used
};

class AddressSpaces {
 public:
  static constexpr unsigned kSpaces = 16;
  static constexpr unsigned kHalves =
      4;  // kernels with different ideas: one and its successor after kexec, say

  explicit AddressSpaces(GuestRam& ram);
  ~AddressSpaces();
  // First of all; an error: the host has no room for them.
  Status init();

  // Far links that are free shall lead to `miss`; those of a view that cannot have any, to `jump` of the
  // view. To be said before any address space is selected; until then free ones are 0.
  Status use_far_links(u64 miss, const u64 (&jump)[kViews]);
  // Whether address spaces with the same upper half have one TLB for it; to be said before any is selected.
  void share_kernel(bool on) { share_kernel_ = on; }

  // The address space for this paging state; the least recently used one is recycled, and *recycled counted
  // up.
  AddressSpace& select(const PagingKey& key, u64* recycled);

  // Makes `linear`'s page reachable for inline reads, and writes when `writable`. Pages whose
  // reads are watched stay out.
  void install(AddressSpace& space, View view, Gva linear, const Walk& walk, bool writable);
  // Remembers a fetched-from page.
  void install_exec(AddressSpace& space, View view, Gva linear, const Walk& walk);
  bool find_exec(AddressSpace& space, View view, Gva linear, Gpa* page) const {
    const auto& v = owner(space, view).view[static_cast<unsigned>(view)];
    const unsigned slot = exec_slot(linear);
    if (v.exec_tag[slot] != (linear.page().value | 1)) return false;
    *page = Gpa(v.exec_page[slot]);
    return true;
  }
  void install_jump(AddressSpace& user, View view, Gva pc, u64 code, u32 mode);
  void set_jump_mode(AddressSpace& space, View view, u32 mode) {
    u32& now = space.tables->view[static_cast<unsigned>(view)].jump_mode;
    if (now == mode) return;
    flush_jump_cache(owner(space, view), static_cast<unsigned>(view));
    now = mode;
  }
  // The far link of a block that runs at linear page `page`, in physical page `frame`, leads to `code`, for
  // `pc`.
  void install_far_link(AddressSpace& space, View view, u32 slot, Gva page, u64 frame, Gva pc, u64 code);
  void reset_far_link(AddressSpace& space, View view, u32 slot) {
    space.tables->view[static_cast<unsigned>(view)].far_link[slot] = far_link_miss_;
  }
  // As if each view had a physical page at two linear ones.
  void give_up_far_links();

  // [at, at+size) inside one page marked kPageTable or kUpperTable is about to become `data` (nullptr: has
  // changed already, old content unknown). Returns whether anything was dropped.
  bool table_write(Gpa at, const void* data, u64 size);
  // No inline write to this frame may succeed any more.
  void drop_writable(u64 frame);
  void drop_all_writable();
  // Absent frames (GuestRam) are not reached inline, neither for reads nor for writes.
  void drop_absent();
  void flush_all_jumps();
  // No jump cache and no far link leads to host addresses in [begin, end) any more, and the far links in
  // slots [first, last) are free.
  void drop_jumps_into(u64 begin, u64 end, u32 first, u32 last);
  void flush_all();

 private:
  AddressSpaceTables* free_tables();

  struct Record {  // a cached translation derived from one leaf entry
    u16 entry;     // index of the leaf entry in its page, in units of 4 bytes
    u32 slot;
    u8 space;
    u8 view;
    bool exec;
  };
  struct Table {
    u64 frame = 0;
    u32 spaces = 0;  // address spaces that used the page as an upper-level table
    u32 roots = 0;   // members of kernel halves whose top-level table it is
    u32 idle_writes = 0;
    std::vector<Record> records;
  };

  // The space whose lists and records a view goes by.
  static AddressSpace& owner(AddressSpace& space, View view) {
    return view == View::kernel_smap && space.kernel ? *space.kernel : space;
  }
  static const AddressSpace& owner(const AddressSpace& space, View view) {
    return view == View::kernel_smap && space.kernel ? *space.kernel : space;
  }
  AddressSpace& by_index(unsigned index) {
    return index < kSpaces ? *spaces_[index] : *halves_[index - kSpaces];
  }
  // Calls f(space, view index) for every view with tables of its own.
  template <class F>
  void for_each_view(F&& f) {
    for (auto& s : spaces_)
      for (unsigned vi = 0; vi < kViews; ++vi)
        if (vi != static_cast<unsigned>(View::kernel_smap) || !s->kernel) f(*s, vi);
    for (auto& h : halves_) f(static_cast<AddressSpace&>(*h), static_cast<unsigned>(View::kernel_smap));
  }

  // --- far_links.cc
  void prepare_view(ViewTables& fresh);  // all zero; for one address space
  void map_far_links(ViewTables& view);  // makes them free
  void note_home(AddressSpace& space, unsigned view, Gva page, u64 frame);
  void forget_home(AddressSpace::PerView& v, unsigned slot);
  void forget_fetches(AddressSpace& space, unsigned view);
  void flush_far_links(AddressSpace& space, unsigned view);

  // --- kernel_half.cc
  // Joins a kernel half if the space may and one fits.
  void join(AddressSpace& space);
  // The space goes its own way until it is selected anew.
  void leave(AddressSpace& space);
  void part(AddressSpace& space, Table& root);  // the same, but the table may stay tracked for nothing
  void leave_root(Table& t);                    // all whose top-level table it is part
  void map_private_view(AddressSpace& space);
  bool fits(const AddressSpace& space, const KernelHalf& half) const;
  KernelHalf* make_half(const PagingKey& key);
  // An entry of the top-level table of a member is used for the first time.
  void use_root_entry(AddressSpace& member, Gpa entry);
  // Bytes of a top-level table change. Returns whether that made a member leave.
  bool root_write(Table& t, u64 from, u64 size);
  u64 root_entry(const AddressSpace& space, unsigned index) const;

  Table& table_for(u64 frame, u8 flag);
  void release_if_unused(Table& t);
  void track(const Walk& walk, AddressSpace& space, Record record);
  void drop(const Record& r);
  u64& write_tag(u32 writer);  // of an entry of Writers
  void note_writer(u64 frame, u32 writer);
  void flush(AddressSpace& space);  // all views of its own
  void flush_view(AddressSpace& space, unsigned view);
  void flush_users(Table& t);
  void release_memory(AddressSpace& space);  // a flushed one's
  // A supervisor's page in the lower half is no other space's.
  void keep_apart_for(AddressSpace& space, View view, Gva linear) {
    if (view != View::kernel_smap || !space.kernel || linear.value >> 63) return;
    space.keeps_apart = true;
    leave(space);
  }
  static unsigned exec_slot(Gva linear) {
    return linear.value >> kPageShift & (AddressSpace::PerView::kExecSlots - 1);
  }
  // The entry depends on the page that `pc` is in, and on the next one if an instruction there can reach into
  // it.
  void note_dependent(AddressSpace& space, unsigned view, Gva pc, bool far, u32 slot);
  static void add_dependent(AddressSpace::PerView& v, unsigned exec_slot, bool far, u32 slot);
  void limit_lists(AddressSpace& space, unsigned view);  // before something is noted
  void drop_dependents(AddressSpace& space, unsigned view, unsigned exec_slot);
  void flush_jump_cache(AddressSpace& space, unsigned view);
  void flush_jumps(AddressSpace& space, unsigned view);  // and far links

  GuestRam& ram_;
  int far_links_fd_ = -1;  // a page of memory of free far links after the other
  u64 far_link_miss_ = 0;
  std::array<u64, kViews> far_link_jump_{};
  std::vector<std::unique_ptr<AddressSpace>> spaces_;
  unsigned most_spaces_ = kSpaces;
  AddressSpaceTables* spare_ = nullptr;  // for the first of them
  std::vector<std::unique_ptr<KernelHalf>> halves_;
  AddressSpace* current_ = nullptr;  // selected last
  bool share_kernel_ = true;
  u64 clock_ = 0;
  u32* table_index_ = nullptr;  // per frame: index into tables_ plus one
  // Where the frame may be write-cached.
  static constexpr unsigned kWriters = 4;  // user, kernel, and the other side of a fork
  struct Writers {
    // 0: free; else space << 24 | view << 20 | slot, plus one, which may be out of date. The first is
    // kSeveral when there were more.
    u32 entry[kWriters];
  };
  Writers* writers_ = nullptr;  // per frame
  u64 frames_ = 0;
  std::vector<Table> tables_;
  std::vector<u32> free_tables_;
};

}  // namespace deja
