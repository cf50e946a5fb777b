// The address spaces against a model: after everything that a guest may do to its page tables, whatever a
// TLB says of an address is what a walk of the tables says now.
//
// DEJA_SEED=N runs that one seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>

#include "execute/tlb/address_space.h"

namespace deja {
namespace {

constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80,
              kNoExecute = u64{1} << 63;
constexpr unsigned kPhysicalBits = 40;
constexpr u64 kMiss = 0x123400;

// Physical memory: kTables frames that serve as tables of any level, roots among them, and data from
// kDataFrame on.
constexpr u64 kFirstTable = 0x10, kTables = 24, kRoots = 5, kDataFrame = 0x40, kDataFrames = 64;
constexpr u64 kBytes = 4_MiB;

class Guest {
 public:
  Guest(u64 seed, unsigned steps)
      : random_(seed), steps_(steps), ram_(std::move(*GuestRam::create(kBytes))), spaces_(*ram_) {
    spaces_.share_kernel(seed % 4 != 0);
    EXPECT_TRUE(spaces_.init().ok());
    EXPECT_TRUE(spaces_.use_far_links(kMiss, {1, 2, 3}).ok());
    build_tables();
    key_ = any_key();
  }

  void run() {
    for (unsigned i = 0; i < steps_ && !testing::Test::HasFailure(); ++i) {
      const std::string what = act();
      check();
      if (testing::Test::HasFailure()) ADD_FAILURE() << "after action " << i << ": " << what;
    }
    EXPECT_GT(compared_, 2 * u64{steps_}) << "hardly anything was ever cached";
  }

 private:
  u64 below(u64 n) { return random_() % n; }
  bool one_in(u64 n) { return below(n) == 0; }
  u64 table() { return (kFirstTable + below(kTables)) << kPageShift; }
  u64 root() { return (kFirstTable + below(kRoots)) << kPageShift; }

  // Few addresses, so that they are met again; in both halves, and some that share slots of the TLB.
  Gva any_address() {
    const u64 index = below(3);
    const u64 low = one_in(3) ? below(2) << 21 : 0;
    const u64 pml4 = one_in(2) ? 0 : 256 + below(2);
    const u64 address = pml4 << 39 | below(2) << 32 | low | index << kPageShift | below(kPageSize / 8) * 8;
    return Gva(sign_extend(address, 48));
  }
  PagingKey any_key() {
    PagingKey k;
    k.cr3 = root();
    k.bits = PagingKey::kPaging | PagingKey::kPae | PagingKey::kLong | PagingKey::kNx | PagingKey::kSmep |
             PagingKey::kSmap;
    if (!one_in(4)) k.bits |= PagingKey::kWp;
    return k;
  }
  // Tables stand by level: roots, then those that they lead to, and so on.
  static constexpr u64 kLevel[] = {0, kRoots, 10, 15, kTables};
  u64 table_of_level(u64 level) {
    return kFirstTable + kLevel[level] + below(kLevel[level + 1] - kLevel[level]);
  }
  // An entry for the table that `at` is in. Mostly it leads to a table of the next level or to data, and now
  // and then anywhere.
  u64 any_entry(u64 at) {
    const u64 index = (at >> kPageShift) - kFirstTable;
    u64 level = 0;
    while (index >= kLevel[level + 1]) ++level;
    const bool leaf = level == 3;
    const u64 frame = one_in(16) ? kFirstTable + below(kDataFrame + kDataFrames - kFirstTable)
                      : leaf     ? kDataFrame + below(kDataFrames)
                                 : table_of_level(level + 1);
    u64 e = frame << kPageShift;
    if (!one_in(12)) e |= kPresent;
    if (!one_in(leaf ? 3 : 10)) e |= kWritable;
    if (leaf ? one_in(2) : !one_in(10)) e |= kUser;
    if (!one_in(4)) e |= kAccessed;
    if (one_in(2)) e |= kDirty;
    if (one_in(24)) e |= kLarge;
    if (one_in(leaf ? 4 : 20)) e |= kNoExecute;
    return e;
  }
  // Indices that any_address() leads to, mostly.
  u64 any_index() {
    constexpr u64 kUsed[] = {0, 1, 2, 4, 256, 257};
    return one_in(10) ? below(512) : kUsed[below(std::size(kUsed))];
  }

  void build_tables() {
    for (u64 f = kFirstTable; f < kFirstTable + kTables; ++f)
      for (const u64 i : {0, 1, 2, 4, 256, 257})
        put((f << kPageShift) + i * 8, any_entry(f << kPageShift), 8);
    // The kernel's half is the same in all but one, as operating systems have it.
    for (u64 r = 1; r < kRoots - 1; ++r)
      for (const u64 i : {256, 257}) {
        u64 entry = 0;
        std::memcpy(&entry, ram_->host(Gpa((kFirstTable << kPageShift) + i * 8)), 8);
        put(((kFirstTable + r) << kPageShift) + i * 8, entry, 8);
      }
  }
  void put(u64 at, u64 value, unsigned size) { std::memcpy(ram_->host(Gpa(at)), &value, size); }

  // --- what a guest and its devices do

  std::string act() {
    switch (below(16)) {
      case 0:
        key_ = any_key();
        return "MOV to CR3 " + std::to_string(key_.cr3);
      case 1:
        return "INVLPG, which drops nothing";  // what it could concern went with the store before it
      case 2:
      case 3:
      case 4:
        return store_entry();
      case 5:
        return store_part();
      case 6:
        return dma();
      case 7:
        return protect_data();
      case 8:
        return rarely();
      default:
        for (u64 i = below(6); i > 0; --i) access();
        return access();
    }
  }
  // As Engine::write_ram.
  std::string store(u64 at, u64 value, unsigned size) {
    if (ram_->flags(at >> kPageShift) & (GuestRam::kPageTable | GuestRam::kUpperTable))
      spaces_.table_write(Gpa(at), &value, size);
    put(at, value, size);
    return "store of " + std::to_string(size) + " bytes at " + std::to_string(at);
  }
  std::string store_entry() {
    const u64 at = table() + any_index() * 8;
    return store(at, any_entry(at), 8);
  }
  // Bytes of an entry, or across two.
  std::string store_part() {
    const unsigned size = 1u << below(4);
    const u64 at = table() + std::min<u64>(any_index() * 8 + below(8), kPageSize - size);
    return store(at, any_entry(at & ~u64{7}) >> (8 * below(4)), size);
  }
  // As Engine::tracked_page_written: the memory has changed already.
  std::string dma() {
    const u64 at = table() + any_index() * 8;
    const u64 bytes = 8 * (1 + below(std::min<u64>(4, (kPageSize - (at & (kPageSize - 1))) / 8)));
    for (u64 i = 0; i < bytes; i += 8) put(at + i, any_entry(at), 8);
    if (ram_->flags(at >> kPageShift) & (GuestRam::kPageTable | GuestRam::kUpperTable))
      spaces_.table_write(Gpa(at), nullptr, bytes);
    return "DMA";
  }
  // A page with data becomes one with code.
  std::string protect_data() {
    const u64 frame = kDataFrame + below(kDataFrames);
    if (ram_->flags(frame) & GuestRam::kWriteCached) spaces_.drop_writable(frame);
    forbidden_ = frame;
    return "drop_writable of frame " + std::to_string(frame);
  }
  std::string rarely() {
    switch (below(8)) {
      case 0:
        spaces_.flush_all();
        return "flush_all";
      case 1:
        spaces_.drop_all_writable();
        return "drop_all_writable";
      case 2:
        spaces_.flush_all_jumps();
        return "flush_all_jumps";
      default:
        return access();
    }
  }
  // As Engine::translate and Engine::fetch_page.
  std::string access() {
    const Gva linear = any_address();
    const View view = static_cast<View>(below(kViews));
    const Access kind = static_cast<Access>(below(3));
    u64 recycled = 0;
    AddressSpace& space = spaces_.select(key_, &recycled);
    const Walk w = walk(space.key, linear, kind, view, true);
    if (!w.ok || !ram_->contains(w.page)) return "access that faults";
    if (forbidden_ == w.page.frame()) forbidden_.reset();
    if (kind == Access::execute) {
      spaces_.install_exec(space, view, linear, w);
      spaces_.install_jump(space, view, linear.page(), code_in(w.page), 0);
    } else {
      spaces_.install(space, view, linear, w, w.writable);
    }
    return "access to " + std::to_string(linear.value);
  }

  // --- the model

  // What a jump to the first byte of that page leads to.
  static u64 code_in(Gpa page) { return page.value | 0xc0de; }

  Walk walk(const PagingKey& key, Gva linear, Access access, View view, bool mark) {
    return walk_pages(*ram_, key, linear, access, view == View::user, view == View::kernel_smap,
                      kPhysicalBits, mark);
  }
  bool marked(const Walk& w, u64 bits) {
    u64 leaf = 0;
    std::memcpy(&leaf, ram_->host(w.leaf), 8);
    for (unsigned i = 0; i < w.levels; ++i) {
      u64 entry = 0;
      std::memcpy(&entry, ram_->host(w.entries[i]), 8);
      if (!(entry & kAccessed)) return false;
    }
    return (leaf & bits) == bits;
  }

  // Compares every entry that there could be, of all address spaces that the guest can go back to.
  void check() {
    for (u64 r = 0; r < kRoots; ++r)
      for (const u32 wp : {0u, u32{PagingKey::kWp}}) {
        PagingKey key = key_;
        key.cr3 = (kFirstTable + r) << kPageShift;
        key.bits = (key.bits & ~u32{PagingKey::kWp}) | wp;
        u64 recycled = 0;
        AddressSpace& space = spaces_.select(key, &recycled);
        for (const u64 pml4 : {0, 256, 257})
          for (const u64 gib4 : {0, 1})
            for (const u64 low : {0, 1})
              for (u64 page = 0; page < 3; ++page) {
                const u64 address = pml4 << 39 | gib4 << 32 | low << 21 | page << kPageShift;
                check_page(space, Gva(sign_extend(address, 48)));
              }
      }
  }

  void check_page(AddressSpace& space, Gva page) {
    for (unsigned vi = 0; vi < kViews; ++vi) {
      const View view = static_cast<View>(vi);
      const ViewTables& t = space.tables->view[vi];
      const u64 slot = page_slot(page);
      if (t.read_tag[slot] + page.value == 0) check_entry(space, page, view, Access::read);
      if (t.write_tag[slot] + page.value == 0) check_entry(space, page, view, Access::write);
      const u64 jump = jump_slot(page);
      if (t.jump_tag[jump] + page.value == 0) check_jump(space, page, view, t.jump_code[jump]);
      if (t.second_jump_tag[jump] + page.value == 0) check_jump(space, page, view, t.second_jump_code[jump]);
      Gpa at;
      if (spaces_.find_exec(space, view, page, &at)) {
        ++compared_;
        const Walk w = walk(space.key, page, Access::execute, view, false);
        EXPECT_TRUE(w.ok && w.page == at && marked(w, kAccessed)) << describe("fetch", space, page, view);
      }
    }
  }
  void check_jump(const AddressSpace& space, Gva page, View view, u64 code) {
    ++compared_;
    const Walk w = walk(space.key, page, Access::execute, view, false);
    EXPECT_TRUE(w.ok && code == code_in(w.page)) << describe("jump", space, page, view);
  }
  void check_entry(const AddressSpace& space, Gva page, View view, Access access) {
    ++compared_;
    const bool write = access == Access::write;
    const Walk w = walk(space.key, page, access, view, false);
    ASSERT_TRUE(w.ok) << describe("access to what is not mapped", space, page, view);
    const ViewTables& t = space.tables->view[static_cast<unsigned>(view)];
    EXPECT_EQ(t.addend[page_slot(page)] + page.value, reinterpret_cast<u64>(ram_->host(w.page)))
        << describe("another page", space, page, view);
    EXPECT_TRUE(marked(w, write ? kAccessed | kDirty : kAccessed))
        << describe("bits are not set", space, page, view);
    if (!write) return;
    EXPECT_FALSE(ram_->flags(w.page.frame()) & GuestRam::kTracked)
        << describe("store to a table", space, page, view);
    EXPECT_FALSE(forbidden_ == w.page.frame()) << describe("store to a withheld page", space, page, view);
  }
  static std::string describe(const char* what, const AddressSpace& space, Gva page, View view) {
    char text[120];
    std::snprintf(text, sizeof text, "%s: CR3 %llx, page %llx, view %u", what,
                  static_cast<unsigned long long>(space.key.cr3), static_cast<unsigned long long>(page.value),
                  static_cast<unsigned>(view));
    return text;
  }

  std::mt19937_64 random_;
  unsigned steps_;
  std::unique_ptr<GuestRam> ram_;
  AddressSpaces spaces_;
  PagingKey key_;
  // The frame that drop_writable() was called for last, until an access may cache it again.
  std::optional<u64> forbidden_;
  u64 compared_ = 0;
};

TEST(AddressSpacesModel, WhatIsCachedIsWhatAWalkFinds) {
  const char* const given = std::getenv("DEJA_SEED");
  const u64 first = given ? std::strtoull(given, nullptr, 0) : 1;
  for (u64 seed = first; seed < first + (given ? 1 : 20) && !HasFailure(); ++seed) {
    SCOPED_TRACE("DEJA_SEED=" + std::to_string(seed));
    Guest(seed, 2000).run();
  }
}

}  // namespace
}  // namespace deja
