#include <gtest/gtest.h>

#include <cstring>

#include "execute/tlb/address_space.h"

namespace deja {
namespace {

constexpr u64 kPresent = 1, kWritable = 2, kAccessed = 0x20, kDirty = 0x40;
constexpr u64 kTableBits = kPresent | kWritable | kAccessed;
constexpr Gva kUpper(0xffff800000001000), kLower(0x1000);

// Two processes: roots at 10000h and 20000h, the kernel's lower tables in common, one page in either half.
class KernelHalfTest : public testing::Test {
 protected:
  KernelHalfTest() : ram_(std::move(*GuestRam::create(4_MiB))), spaces_(*ram_) {
    EXPECT_TRUE(spaces_.init().ok());
    for (const u64 root : {kRootA, kRootB}) {
      put(root + 256 * 8, 0x30000 | kTableBits);
      put(root, 0x60000 | kTableBits);
    }
    put(0x30000, 0x40000 | kTableBits);
    put(0x40000, 0x50000 | kTableBits);
    put(0x50000 + 8, 0x100000 | kTableBits | kDirty);
    put(0x60000, 0x70000 | kTableBits);
    put(0x70000, 0x80000 | kTableBits);
    put(0x80000 + 8, 0x200000 | kTableBits | kDirty);
  }

  void put(u64 at, u64 entry) { std::memcpy(ram_->host(Gpa(at)), &entry, 8); }
  // A store by the guest.
  void store(u64 at, u64 entry) {
    if (ram_->flags(at >> kPageShift) & GuestRam::kTracked) spaces_.table_write(Gpa(at), &entry, 8);
    put(at, entry);
  }
  static PagingKey key(u64 root) {
    PagingKey k;
    k.cr3 = root;
    k.bits = PagingKey::kPaging | PagingKey::kPae | PagingKey::kLong | PagingKey::kSmap | PagingKey::kWp;
    return k;
  }
  AddressSpace& select(u64 root) {
    u64 recycled = 0;
    return spaces_.select(key(root), &recycled);
  }
  // As an access that missed.
  void access(u64 root, Gva linear) {
    AddressSpace& space = select(root);
    const Walk w = walk_pages(*ram_, space.key, linear, Access::read, false, true, 40);
    ASSERT_TRUE(w.ok);
    spaces_.install(space, View::kernel_smap, linear, w, w.writable);
  }
  bool cached(u64 root, Gva linear) {
    const ViewTables& t = select(root).tables->view[static_cast<unsigned>(View::kernel_smap)];
    const u64 slot = linear.value >> kPageShift & 0xffff;
    return t.read_tag[slot] + linear.page().value == 0 &&
           t.addend[slot] + linear.value ==
               reinterpret_cast<u64>(ram_->host(Gpa(linear == kUpper ? 0x100000 : 0x200000)));
  }

  static constexpr u64 kRootA = 0x10000, kRootB = 0x20000;
  std::unique_ptr<GuestRam> ram_;
  AddressSpaces spaces_;
};

TEST_F(KernelHalfTest, AnotherProcessFindsTheKernelsPagesCached) {
  access(kRootA, kUpper);
  EXPECT_TRUE(cached(kRootA, kUpper));
  EXPECT_TRUE(cached(kRootB, kUpper));
}

TEST_F(KernelHalfTest, AChangeOfASharedTableDropsTheEntryForAll) {
  access(kRootA, kUpper);
  store(0x50000 + 8, 0x180000 | kTableBits);
  EXPECT_FALSE(cached(kRootA, kUpper));
  EXPECT_FALSE(cached(kRootB, kUpper));
}

TEST_F(KernelHalfTest, ARootWithAnotherEntryDoesNotShare) {
  store(kRootB + 256 * 8, 0x38000 | kTableBits);
  access(kRootA, kUpper);
  EXPECT_FALSE(cached(kRootB, kUpper));
  EXPECT_TRUE(cached(kRootA, kUpper));
}

TEST_F(KernelHalfTest, ARootWhoseEntryWasNotAccessedDoesNotShare) {
  // Its first access has to set the bit.
  store(kRootB + 256 * 8, 0x30000 | kPresent | kWritable);
  ASSERT_FALSE(cached(kRootB, kUpper));  // joined before anything was used
  access(kRootA, kUpper);
  EXPECT_FALSE(cached(kRootB, kUpper));
  access(kRootB, kUpper);
  u64 entry = 0;
  ASSERT_TRUE(ram_->read(Gpa(kRootB + 256 * 8), &entry, 8));
  EXPECT_TRUE(entry & kAccessed);
}

TEST_F(KernelHalfTest, AStoreToARootMakesItsOwnerLeaveAndOnlyIt) {
  access(kRootA, kUpper);
  ASSERT_TRUE(cached(kRootB, kUpper));
  store(kRootB + 256 * 8, 0);
  EXPECT_FALSE(cached(kRootB, kUpper));
  EXPECT_TRUE(cached(kRootA, kUpper));
}

TEST_F(KernelHalfTest, ARootThatIsTheSameAgainWhenItIsSelectedSharesAgain) {
  access(kRootA, kUpper);
  select(kRootB);
  select(kRootA);
  store(kRootB + 256 * 8, 0);
  store(kRootB + 256 * 8, 0x30000 | kTableBits);
  EXPECT_TRUE(cached(kRootB, kUpper));
}

TEST_F(KernelHalfTest, AStoreToTheRootInUseTakesEffectAtOnce) {
  access(kRootA, kUpper);
  access(kRootB, kUpper);
  AddressSpace& b = select(kRootB);
  store(kRootB + 256 * 8, 0);
  EXPECT_EQ(
      b.tables->view[static_cast<unsigned>(View::kernel_smap)].read_tag[kUpper.value >> kPageShift & 0xffff],
      0u);
}

TEST_F(KernelHalfTest, SupervisorPagesInTheLowerHalfAreNotShared) {
  access(kRootA, kUpper);
  access(kRootA, kLower);
  EXPECT_TRUE(cached(kRootA, kLower));
  EXPECT_FALSE(cached(kRootB, kLower));
  store(0x80000 + 8, 0);
  EXPECT_FALSE(cached(kRootA, kLower));
}

TEST_F(KernelHalfTest, FlushingEmptiesWhatIsShared) {
  access(kRootA, kUpper);
  spaces_.flush_all();
  EXPECT_FALSE(cached(kRootB, kUpper));
  EXPECT_FALSE(cached(kRootA, kUpper));
}

TEST_F(KernelHalfTest, WritesAreDroppedWhereverTheyWereCached) {
  access(kRootA, kUpper);
  access(kRootB, kUpper);
  const u64 slot = kUpper.value >> kPageShift & 0xffff;
  const auto& t = select(kRootB).tables->view[static_cast<unsigned>(View::kernel_smap)];
  ASSERT_NE(t.write_tag[slot], 0u);
  spaces_.drop_writable(0x100);
  EXPECT_EQ(t.write_tag[slot], 0u);
}

TEST_F(KernelHalfTest, MoreProcessesThanTablesComeAndGo) {
  for (u64 i = 0; i < 40; ++i) {
    const u64 root = 0x300000 + 0x2000 * (i % 25);
    store(root + 256 * 8, 0x30000 | kTableBits);
    access(root, kUpper);
    EXPECT_TRUE(cached(root, kUpper));
    if (i % 3) continue;
    store(root + 256 * 8, 0);
    EXPECT_FALSE(cached(root, kUpper));
  }
}

}  // namespace
}  // namespace deja
