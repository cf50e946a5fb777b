#include "execute/tlb/address_space.h"

#include <gtest/gtest.h>

#include <cstring>

namespace deja {
namespace {

constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20;
constexpr u64 kTableBits = kPresent | kWritable | kUser | kAccessed;
constexpr u64 kRoot = 0x10000, kTable = 0x40000, kMiss = 0x123400, kCode = 0x567800;
constexpr unsigned kSame = AddressSpace::PerView::kExecSlots;  // pages so far apart share a slot

// One process; linear page n is at physical page 100h + n.
class JumpsTest : public testing::Test {
 protected:
  JumpsTest() : ram_(std::move(*GuestRam::create(32_MiB))), spaces_(*ram_) {
    EXPECT_TRUE(spaces_.init().ok());
    EXPECT_TRUE(spaces_.use_far_links(kMiss, {1, 2, 3}).ok());
    put(kRoot, 0x20000 | kTableBits);
    put(0x20000, 0x30000 | kTableBits);
    for (u64 t = 0; t < 9; ++t) put(0x30000 + 8 * t, (kTable + t * kPageSize) | kTableBits);
    for (u64 n = 0; n <= kSame + 8; ++n) put(kTable + 8 * n, ((0x100 + n) << kPageShift) | kTableBits);
    PagingKey key;
    key.cr3 = kRoot;
    key.bits = PagingKey::kPaging | PagingKey::kPae | PagingKey::kLong | PagingKey::kWp;
    u64 recycled = 0;
    space_ = &spaces_.select(key, &recycled);
  }

  void put(u64 at, u64 entry) { std::memcpy(ram_->host(Gpa(at)), &entry, 8); }
  static u64 at(u64 page, u64 offset = 0) { return page << kPageShift | offset; }
  void fetch(u64 page) {
    const Walk w = walk_pages(*ram_, space_->key, Gva(at(page)), Access::execute, true, false, 40);
    ASSERT_TRUE(w.ok);
    spaces_.install_exec(*space_, View::user, Gva(at(page)), w);
  }
  void jump(u64 pc) { spaces_.install_jump(*space_, View::user, Gva(pc), kCode, 0); }
  void far_link(u32 slot, u64 from_page, u64 pc) {
    spaces_.install_far_link(*space_, View::user, slot, Gva(at(from_page)), 0x100 + from_page, Gva(pc),
                             kCode);
  }
  // The guest maps the page elsewhere.
  void change(u64 page) {
    const u64 entry = 0x2000 << kPageShift | kTableBits;
    EXPECT_TRUE(spaces_.table_write(Gpa(kTable + 8 * page), &entry, 8));
    put(kTable + 8 * page, entry);
  }
  const ViewTables& tables() const { return space_->tables->view[static_cast<unsigned>(View::user)]; }
  bool jumps(u64 pc) const { return tables().jump_tag[jump_slot(Gva(pc))] + pc == 0; }
  bool finds(u64 pc) {
    return find_jump(space_->tables->view[static_cast<unsigned>(View::user)], Gva(pc)) == kCode &&
           jumps(pc) && tables().jump_code[jump_slot(Gva(pc))] == kCode;
  }
  // A PC in page 16 that has the same slot in the jump cache.
  static u64 with_slot_of(u64 pc) {
    u64 other = at(16);
    while (jump_slot(Gva(other)) != jump_slot(Gva(pc))) ++other;
    EXPECT_EQ(other >> kPageShift, 16u);
    return other;
  }
  bool linked(u32 slot) const {
    EXPECT_TRUE(tables().far_link[slot] == kMiss || tables().far_link[slot] == kCode);
    return tables().far_link[slot] == kCode;
  }

  std::unique_ptr<GuestRam> ram_;
  AddressSpaces spaces_;
  AddressSpace* space_;
};

TEST_F(JumpsTest, NothingIsMappedOutsideTheCanonicalAddresses) {
  EXPECT_EQ(peek_translation(*ram_, space_->key, Gva(at(3, 5))), Gpa(at(0x103, 5)));
  EXPECT_FALSE(peek_translation(*ram_, space_->key, Gva((u64{1} << 48) + at(3, 5))));
}

TEST_F(JumpsTest, AChangedPageTakesOnlyItsOwnJumpsWithIt) {
  for (const u64 page : {1, 2, 3}) fetch(page);
  jump(at(1, 0x10)), jump(at(2, 0x20));
  far_link(5, 1, at(2, 0x30));
  far_link(6, 2, at(3, 0x40));
  far_link(7, 3, at(1, 0x50));
  change(1);
  EXPECT_FALSE(jumps(at(1, 0x10)));
  EXPECT_TRUE(jumps(at(2, 0x20)));
  EXPECT_FALSE(linked(5));  // the block that it belongs to is in the page
  EXPECT_TRUE(linked(6));
  EXPECT_FALSE(linked(7));
}

TEST_F(JumpsTest, AnInstructionAtAPagesEndDependsOnTheNextPageToo) {
  for (const u64 page : {1, 2}) fetch(page);
  jump(at(1, 0xff2)), jump(at(1, 0xff1));
  change(2);
  EXPECT_FALSE(jumps(at(1, 0xff2)));
  EXPECT_TRUE(jumps(at(1, 0xff1)));  // 15 bytes, the most that there are, end with the page
}

TEST_F(JumpsTest, AJumpIntoAnotherMappingOfItsOwnFrameIsNotLinked) {
  put(kTable + 8 * 2, (0x101 << kPageShift) | kTableBits);  // as page 1
  fetch(1);
  far_link(5, 1, at(3, 0x30));
  fetch(2);
  EXPECT_FALSE(linked(5));
  far_link(5, 1, at(2, 0x30));
  EXPECT_FALSE(linked(5)) << "this same jump in page 2 leads to page 3";
  Gpa page;
  EXPECT_TRUE(spaces_.find_exec(*space_, View::user, Gva(at(2)), &page));
}

TEST_F(JumpsTest, PagesOfOneSlotGoTogether) {
  fetch(4);
  jump(at(4, 0x10));
  fetch(4 + kSame);
  jump(at(4 + kSame, 0x20));
  change(4);
  EXPECT_FALSE(jumps(at(4, 0x10)));
  Gpa page;
  EXPECT_FALSE(spaces_.find_exec(*space_, View::user, Gva(at(4)), &page));
}

TEST_F(JumpsTest, ASlotOfTheJumpCacheGoesWithThePageThatHasItNow) {
  for (const u64 page : {1, 16}) fetch(page);
  const u64 first = at(1, 0x100), second = with_slot_of(first);
  jump(first), jump(second);
  change(16);
  EXPECT_FALSE(jumps(second));
}

TEST_F(JumpsTest, TwoJumpsShareASlot) {
  for (const u64 page : {1, 16}) fetch(page);
  const u64 first = at(1, 0x100), second = with_slot_of(first);
  jump(first), jump(second);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_TRUE(finds(first));
    EXPECT_TRUE(finds(second));
  }
  // Each goes with its page, whichever of the ways it is in.
  change(1);
  EXPECT_FALSE(finds(first));
  jump(second);
  fetch(1);
  jump(first), jump(second);
  spaces_.drop_jumps_into(kCode, kCode + 1, 0, 0);
  EXPECT_FALSE(finds(first));
  EXPECT_FALSE(finds(second));
  jump(first), jump(second);
  spaces_.flush_all_jumps();
  EXPECT_FALSE(finds(first));
  EXPECT_FALSE(finds(second));
}

TEST_F(JumpsTest, ListsThatGrowLongForgetNothing) {
  for (const u64 page : {1, 3, 16}) fetch(page);
  far_link(9, 3, at(3, 0x100));
  jump(at(3, 0x200));
  // Two jumps that take turns in one slot.
  const u64 first = at(1, 0x100), second = with_slot_of(first);
  for (unsigned i = 0; i < 600'000; ++i) jump(first), jump(second);
  EXPECT_LT(space_->view[static_cast<unsigned>(View::user)].dependents.size(), 1'100'000u);
  EXPECT_TRUE(jumps(second));
  EXPECT_TRUE(jumps(at(3, 0x200)));
  EXPECT_TRUE(linked(9));
  change(16);
  EXPECT_FALSE(jumps(second));
  change(3);
  EXPECT_FALSE(jumps(at(3, 0x200)));
  EXPECT_FALSE(linked(9));
}

}  // namespace
}  // namespace deja
