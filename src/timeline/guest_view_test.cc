#include "timeline/guest_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "machine/machine_for_test.h"

namespace deja {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr u64 kPresent = 1, kLarge = 0x80;
constexpr u64 kA = 20_MiB, kB = 30_MiB;  // two pages that are not neighbours
constexpr u64 kDevice = 0xfee00000;      // a local APIC's registers

class GuestViewTest : public testing::Test {
 protected:
  GuestViewTest() { cpu().cr3 = top_ = machine_.make_table(); }
  CpuState& cpu() { return machine_.cpu(0); }
  GuestView view() { return GuestView::of_vcpu(*machine_, 0); }
  void map(u64 linear, u64 physical) { machine_.map(top_, linear, physical); }
  std::string read_some(u64 address, u64 size) {
    std::string out(size, '?');
    out.resize(view().read_some(address, out.data(), size));
    return out;
  }
  // The modes of before 64 bits, with the same `cr3`.
  void leave_long_mode(bool paging, bool pae) {
    cpu().efer &= ~(eferbit::LMA | eferbit::LME);
    cpu().seg[CS].attr = SegmentRegister{}.attr;
    cpu().cr0 = paging ? cpu().cr0 | cr0bit::PG : cpu().cr0 & ~cr0bit::PG;
    cpu().cr4 = pae ? cpu().cr4 | cr4bit::PAE : cpu().cr4 & ~cr4bit::PAE;
  }

  test::MachineForTest machine_;
  u64 top_ = 0;
};

TEST_F(GuestViewTest, ReadsAcrossPagesThatAreNotNeighbours) {
  map(0x400000, kA), map(0x401000, kB);
  machine_.write_text(kA + 4096 - 3, "abc");
  machine_.write_text(kB, "def");
  EXPECT_EQ(read_some(0x400000 + 4096 - 3, 6), "abcdef");
  EXPECT_EQ(view().translate(0x401234), Gpa(kB + 0x234));
}

TEST_F(GuestViewTest, ReadsUpToWhereNothingIsMapped) {
  map(0x400000, kA);
  machine_.write_text(kA + 4096 - 3, "abc");
  EXPECT_EQ(read_some(0x400000 + 4096 - 3, 100), "abc");
  char out[4];
  EXPECT_TRUE(view().read(0x400000 + 4096 - 3, out, 3));
  EXPECT_FALSE(view().read(0x400000 + 4096 - 3, out, 4));
  EXPECT_EQ(read_some(0x3fffff, 2), "");
  EXPECT_FALSE(view().translate(0x3fffff));
}

TEST_F(GuestViewTest, ADevicesRegistersAreSomewhereButNotRead) {
  map(0x400000, kA), map(0x401000, kDevice);
  EXPECT_EQ(view().translate(0x401020), Gpa(kDevice + 0x20));
  EXPECT_EQ(read_some(0x401020, 4), "");
  EXPECT_EQ(read_some(0x400ffc, 8).size(), 4u);
  u32 value = 0;
  EXPECT_FALSE(GuestView::physical(*machine_).value(kDevice + 0x20, &value));
}

TEST_F(GuestViewTest, PhysicalMemoryEndsWithRam) {
  const GuestView physical = GuestView::physical(*machine_);
  machine_.write_text(64_MiB - 2, "yz");
  char out[4] = {};
  EXPECT_EQ(physical.read_some(64_MiB - 2, out, 4), 2u);
  EXPECT_STREQ(out, "yz");
  EXPECT_EQ(physical.read_some(~u64{0}, out, 1), 0u);
  EXPECT_TRUE(physical.is_physical());
}

TEST_F(GuestViewTest, LargePagesAreOnePiece) {
  const u64 pointers = machine_.make_table(), directory = machine_.make_table();
  machine_.write(top_, pointers | kPresent);
  machine_.write(pointers, directory | kPresent);
  machine_.write(pointers + 8, u64{kPresent | kLarge});            // 1 GiB at 1 GiB: the start of memory
  machine_.write(directory + 8, u64{32_MiB | kPresent | kLarge});  // 2 MiB at 2 MiB
  machine_.write_text(32_MiB + 0x12345, "two");
  machine_.write_text(kA + 0x12345, "one");
  EXPECT_EQ(read_some(2_MiB + 0x12345, 3), "two");
  EXPECT_EQ(read_some(1_GiB + kA + 0x12345, 3), "one");
  EXPECT_EQ(read_some(1_GiB + 64_MiB - 2, 4).size(), 2u);  // mapped, but there is no more RAM
}

TEST_F(GuestViewTest, AddressesThatAreNotCanonicalAreNotMapped) {
  map(0x7ffffffff000, kA);
  map(0xffff800000000000, kB);
  EXPECT_EQ(read_some(0x7ffffffffffe, 8).size(), 2u);
  EXPECT_EQ(read_some(0x800000000000, 1), "");
  EXPECT_EQ(read_some(0xffff7fffffffffff, 1), "");
  EXPECT_EQ(read_some(0xffff800000000000, 1).size(), 1u);
}

TEST_F(GuestViewTest, TheLastAddressIsFollowedByTheFirst) {
  map(0xfffffffffffff000, kA), map(0, kB);
  machine_.write_text(kA + 4094, "ab");
  machine_.write_text(kB, "cd");
  EXPECT_EQ(read_some(0xfffffffffffffffe, 4), "abcd");
}

TEST_F(GuestViewTest, WithoutPagingAddressesHave32BitsAndArePhysical) {
  leave_long_mode(false, false);
  machine_.write_text(kA, "abcd");
  EXPECT_EQ(read_some(kA, 4), "abcd");
  EXPECT_EQ(read_some((u64{1} << 32) + kA, 4), "abcd");
  EXPECT_EQ(view().table(), 0u);
  EXPECT_FALSE(view().is_physical());
}

TEST_F(GuestViewTest, TwoLevelsOfTables) {
  leave_long_mode(true, false);
  cpu().cr4 |= cr4bit::PSE;
  const u64 table = machine_.make_table();
  machine_.write(top_ + 4, static_cast<u32>(table | kPresent));
  machine_.write(top_ + 8, static_cast<u32>(32_MiB | kPresent | kLarge));  // 4 MiB
  machine_.write(table + 4, static_cast<u32>(kA | kPresent));
  machine_.write_text(kA, "small");
  machine_.write_text(32_MiB + 0x234567, "large");
  EXPECT_EQ(read_some(4_MiB + 0x1000, 5), "small");
  EXPECT_EQ(read_some(8_MiB + 0x234567, 5), "large");
  EXPECT_EQ(read_some(4_MiB, 1), "");
}

TEST_F(GuestViewTest, ThreeLevelsBeginInRegistersAndAnotherTableInMemory) {
  leave_long_mode(true, true);
  const auto make_space = [&](u64 page) {
    const u64 directory = machine_.make_table(), table = machine_.make_table();
    machine_.write(directory, table | kPresent);
    machine_.write(table, page | kPresent);
    return directory | kPresent;
  };
  cpu().pdpte[3] = make_space(kA);
  const u64 other = machine_.make_table() + 0x40;  // at a multiple of 32
  machine_.write(other + 3 * 8, make_space(kB));
  machine_.write_text(kA, "here");
  machine_.write_text(kB, "there");
  EXPECT_EQ(read_some(0xc0000000, 4), "here");
  char out[5];
  ASSERT_TRUE(view().with_table(other).read(0xc0000000, out, 5));
  EXPECT_EQ(std::string(out, 5), "there");
  EXPECT_FALSE(view().with_table(8_GiB).read(0xc0000000, out, 5));
}

TEST_F(GuestViewTest, AnotherTableIsNamedAsInCr3) {
  const u64 other = machine_.make_table();
  map(0x400000, kA);
  machine_.map(other, 0x400000, kB);
  EXPECT_EQ(view().with_table(other | 0x8000000000000001).translate(0x400000), Gpa(kB));
  EXPECT_EQ(view().translate(0x400000), Gpa(kA));
  EXPECT_EQ(GuestView::of_space(*machine_, paging_key(cpu())).translate(0x400000), Gpa(kA));
}

class Pages final : public PageSource {
 public:
  void load(u64 frame, u8* page) override {
    loaded.push_back(frame);
    std::memset(page, 'A' + static_cast<int>(frame % 16), kPageSize);
  }
  std::vector<u64> loaded;
};

TEST_F(GuestViewTest, AbsentPagesAreLoadedAndOnlyThoseThatAreLookedAt) {
  map(0x400000, kA), map(0x401000, kB);
  Pages source;
  GuestRam& ram = machine_->ram();
  ram.set_source(&source);
  const u32 frames[] = {kA >> kPageShift, kB >> kPageShift, (kB >> kPageShift) + 1};
  ram.make_absent(frames);
  EXPECT_EQ(read_some(0x400ffe, 2), "AA");
  EXPECT_THAT(source.loaded, ElementsAre(frames[0]));
  EXPECT_EQ(read_some(0x400ffe, 4), "AAAA");
  EXPECT_THAT(source.loaded, ElementsAre(frames[0], frames[1]));
  EXPECT_TRUE(ram.is_absent(frames[2]));
  ram.set_source(nullptr);
}

TEST_F(GuestViewTest, LookingLeavesNoMark) {
  map(0x400000, kA);
  const u64 before = machine_->ram().digest_from_scratch();
  EXPECT_EQ(read_some(0x400000, 8).size(), 8u);
  EXPECT_FALSE(view().instruction(0x400000).text.empty());
  view().each_user_page([](Gva, Gpa) { return true; });
  EXPECT_EQ(machine_->ram().digest_from_scratch(), before);
}

TEST_F(GuestViewTest, TextEndsAtItsZeroAndSteersNoTerminal) {
  map(0x400000, kA);
  machine_.write_text(kA, std::string("caf\xc3\xa9 \x1b[2J\n\0junk", 15));
  EXPECT_EQ(view().text(0x400000, 16), "caf\xc3\xa9 \\x1b[2J\\n");
  EXPECT_EQ(view().text(0x400000, 3), "caf");
  // A name at the end of the last page that is mapped.
  machine_.write_text(kA + 4092, std::string("end\0", 4));
  EXPECT_EQ(view().text(0x400ffc, 16), "end");
  machine_.write_text(kA + 4092, "long");
  EXPECT_FALSE(view().text(0x400ffc, 16));
  EXPECT_FALSE(view().text(0x500000, 16));
}

TEST_F(GuestViewTest, InstructionsAreReadInTheModeOfTheirVcpu) {
  map(0x400000, kA), map(0x401000, kB);
  machine_.write_text(kA + 4095, "\x48");
  machine_.write_text(kB, "\x89\xd8");  // mov rax, rbx; without the prefix: mov eax, ebx
  EXPECT_EQ(view().instruction(0x400fff).text, "mov rax, rbx");
  EXPECT_EQ(view().instruction(0x400fff).insn.length, 3u);
  cpu().seg[CS].attr = 0;  // compatibility mode, 16-bit code
  ASSERT_EQ(cpu().code_size(), 2u);
  EXPECT_EQ(view().instruction(0x400fff).text, "dec ax");
  EXPECT_FALSE(view().instruction(0x600000).ok);
  EXPECT_TRUE(view().instruction(0x600000).text.empty());
}

TEST_F(GuestViewTest, CodeOf32BitsGoesOnAtZero) {
  map(0xfffff000, kA), map(0, kB);
  machine_.write_text(kA + 4094, "\x66\xb8");
  machine_.write_text(kB, std::string("\x34\x12", 2));
  cpu().seg[CS].attr = 0;
  EXPECT_EQ(view().instruction(0xfffffffe).text, "mov eax, 0x1234");
}

std::vector<u64> user_pages(const GuestView& view) {
  std::vector<u64> out;
  view.each_user_page([&](Gva at, Gpa) { return out.push_back(at.value), true; });
  return out;
}

TEST_F(GuestViewTest, UserPagesAreListedInOrder) {
  map(0x7ffffffff000, kA), map(0x400000, kB), map(0xffff800000000000, kB);
  const u64 pointers = machine_.make_table();
  machine_.write(top_ + 8, pointers | kPresent);
  machine_.write(pointers, u64{kPresent | kLarge});
  EXPECT_THAT(user_pages(view()), ElementsAre(0x400000, u64{512} << 30, 0x7ffffffff000));
  u64 seen = 0;
  view().each_user_page([&](Gva, Gpa at) { return seen = at.value, false; });
  EXPECT_EQ(seen, kB);
  leave_long_mode(true, true);
  EXPECT_THAT(user_pages(view()), IsEmpty());
  EXPECT_THAT(user_pages(GuestView::physical(*machine_)), IsEmpty());
}

// 2^35 pages.
TEST_F(GuestViewTest, ATableThatLeadsToItselfHasAnEnd) {
  for (u64 i = 0; i < 512; ++i) machine_.write(top_ + i * 8, top_ | 7);
  u64 pages = 0;
  view().each_user_page([&](Gva, Gpa) { return ++pages, true; });
  EXPECT_GT(pages, u64{1} << 23);
  EXPECT_LE(pages, u64{1} << 24);
  u64 entry = 0;
  EXPECT_TRUE(view().value(0, &entry));
  EXPECT_EQ(entry, top_ | 7);
}

}  // namespace
}  // namespace deja
