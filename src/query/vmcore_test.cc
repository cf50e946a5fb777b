#include "query/vmcore.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "machine/machine_for_test.h"

namespace deja {
namespace {

constexpr u64 kKernelMap = 0xffffffff80000000;

std::string info(const std::string& release, u64 text, u64 phys_base = 0) {
  return fmt::format("OSRELEASE={}\nNUMBER(phys_base)={}\nSYMBOL(_stext)={:x}\n", release, phys_base, text);
}

TEST(Vmcoreinfo, IsThatOfTheKernelThatIsMapped) {
  test::MachineForTest machine;
  const u64 text = kKernelMap + 16_MiB, base = 4_MiB;
  machine.map(machine.cpu(0).cr3, text, 16_MiB + base);
  EXPECT_EQ(find_vmcoreinfo(*machine), "");
  machine.write_text(32_MiB, info("not-mapped", kKernelMap + 8_MiB));
  machine.write_text(33_MiB, info("mapped-elsewhere", text));
  machine.write_text(34_MiB + 8, info("not-at-a-page", text, base));
  EXPECT_EQ(find_vmcoreinfo(*machine), "");
  machine.write_text(35_MiB, info("right", text, base));
  machine.write_text(36_MiB, info("copy", text, base));
  EXPECT_EQ(find_vmcoreinfo(*machine), info("right", text, base));
}

TEST(Vmcoreinfo, IsNotLookedForInPagesWithoutEnd) {
  test::MachineForTest machine;
  const u64 text = kKernelMap + 16_MiB;
  machine.map(machine.cpu(0).cr3, text, 16_MiB);
  for (u64 i = 0; i < 1023; ++i) machine.write_text(32_MiB + i * kPageSize, "OSRELEASE=");
  const u64 behind = 32_MiB + 1023 * kPageSize;
  machine.write_text(behind, info("the-1024th", text));
  EXPECT_EQ(find_vmcoreinfo(*machine), info("the-1024th", text));
  machine.write_text(31_MiB, "OSRELEASE=");
  EXPECT_EQ(find_vmcoreinfo(*machine), "");
}

}  // namespace
}  // namespace deja
