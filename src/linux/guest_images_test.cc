#include "linux/guest_images.h"

#include <gtest/gtest.h>

#include "base/elf.h"
#include "machine/machine_for_test.h"

namespace deja {
namespace {

// The first page of a program that was linked at 2 MiB.
void put_image(test::MachineForTest& machine, u64 physical) {
  Elf64_Ehdr h = elf64_header(ET_EXEC);
  h.e_phoff = sizeof h;
  h.e_phnum = 1;
  h.e_phentsize = sizeof(Elf64_Phdr);
  Elf64_Phdr p{};
  p.p_type = PT_LOAD;
  p.p_vaddr = 2_MiB;
  machine.write(physical, h);
  machine.write(physical + sizeof h, p);
}

TEST(GuestImages, AreFoundByTheirHeaders) {
  test::MachineForTest machine;
  const u64 top = machine.cpu(0).cr3 = machine.make_table();
  put_image(machine, 32_MiB);
  machine.map(top, 4_MiB, 33_MiB);
  machine.map(top, 0x7ffff0000000, 32_MiB);
  machine.map(top, 0xffff800000000000, 32_MiB);  // not the user's
  const std::vector<GuestImage> images = guest_images(GuestView::of_vcpu(*machine, 0));
  ASSERT_EQ(images.size(), 1u);
  EXPECT_EQ(images[0].base, 0x7ffff0000000u);
  EXPECT_EQ(images[0].lowest, 2_MiB);
  EXPECT_TRUE(images[0].fixed_address);
}

// 2^35 pages.
TEST(GuestImages, ATableThatLeadsToItselfHasAnEnd) {
  test::MachineForTest machine;
  const u64 top = machine.cpu(0).cr3 = machine.make_table();
  for (u64 i = 0; i < 512; ++i) machine.write(top + i * 8, top | 7);
  EXPECT_TRUE(guest_images(GuestView::of_vcpu(*machine, 0)).empty());
}

TEST(GuestImages, OneThatIsMappedEverywhereIsNotCountedForEver) {
  test::MachineForTest machine;
  const u64 top = machine.cpu(0).cr3 = machine.make_table();
  put_image(machine, 32_MiB);
  const u64 table = machine.make_table();
  for (u64 i = 0; i < 512; ++i) machine.write(table + i * 8, u64{32_MiB} | 7);
  const u64 directory = machine.make_table(), pointers = machine.make_table();
  for (u64 i = 0; i < 512; ++i) machine.write(directory + i * 8, table | 7);
  machine.write(pointers, directory | 7);
  machine.write(top, pointers | 7);
  EXPECT_EQ(guest_images(GuestView::of_vcpu(*machine, 0)).size(), 4096u);
}

}  // namespace
}  // namespace deja
