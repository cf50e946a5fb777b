#include "machine/e820.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

class E820Layouts : public testing::TestWithParam<u64> {};

TEST_P(E820Layouts, CoversRamWithoutOverlap) {
  const u64 size = GetParam();
  const u64 low = std::min(size, kMaxLowRam), high = size - low;
  const E820Map map(low, high);
  u64 last = 0, ram = 0, firmware = 0;
  for (const E820Entry& e : map.entries()) {
    EXPECT_GE(e.start, last);
    EXPECT_GT(e.size, 0u);
    if (e.start == kEcamBase) continue;  // not RAM
    EXPECT_TRUE(e.end() <= low || (e.start >= kHighRamStart && e.end() <= kHighRamStart + high)) << e.start;
    last = e.end();
    if (e.type == E820Type::ram) ram += e.size;
    if (e.type == E820Type::acpi_reclaimable || e.type == E820Type::acpi_nvs) firmware += e.size;
  }
  EXPECT_EQ(firmware, 128_KiB);
  EXPECT_EQ(ram, size - 128_KiB - (kExtendedStart - kEbdaStart));
  EXPECT_EQ(map.acpi_nvs() + kAcpiNvsSize, low);
}

INSTANTIATE_TEST_SUITE_P(Sizes, E820Layouts,
                         testing::Values(32_MiB, 2_GiB, 3_GiB, 3_GiB + 4_KiB, 4_GiB, 16_GiB));

TEST(E820, Exact32MiB) {
  const std::vector<E820Entry> expected = {{0, 0x9fc00, E820Type::ram},
                                           {0x9fc00, 0x400, E820Type::reserved},
                                           {0xe0000, 0x20000, E820Type::reserved},
                                           {0x100000, 0x1ee0000, E820Type::ram},
                                           {0x1fe0000, 0x1f000, E820Type::acpi_reclaimable},
                                           {0x1fff000, 0x1000, E820Type::acpi_nvs},
                                           {0xe0000000, 0x100000, E820Type::reserved}};
  EXPECT_EQ(E820Map(32_MiB, 0).entries(), expected);
}

TEST(E820, HighRamStartsAt4GiB) {
  const E820Entry last = E820Map(3_GiB, 13_GiB).entries().back();
  EXPECT_EQ(last, (E820Entry{4_GiB, 13_GiB, E820Type::ram}));
}

TEST(E820, Loadable) {
  const E820Map map(3_GiB, 1_GiB);
  EXPECT_TRUE(map.loadable(1_MiB, 16_MiB));
  EXPECT_TRUE(map.loadable(1_MiB, map.low_usable_end() - 1_MiB));
  EXPECT_FALSE(map.loadable(1_MiB, map.low_usable_end() - 1_MiB + 1));
  EXPECT_FALSE(map.loadable(0x10000, 16));  // conventional memory is the loader's
  EXPECT_FALSE(map.loadable(map.acpi_tables(), 1));
  EXPECT_FALSE(map.loadable(3_GiB, 1));
  EXPECT_TRUE(map.loadable(4_GiB, 1_GiB));
  EXPECT_FALSE(map.loadable(4_GiB, 1_GiB + 1));
  EXPECT_FALSE(map.loadable(16_MiB, ~u64{0}));
  EXPECT_FALSE(map.loadable(~u64{0}, 2));
}

}  // namespace
}  // namespace deja
