#include "machine/elf_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/images_for_test.h"

namespace deja {
namespace {

using test::Bytes;
using test::make_ram;
using test::peek;

TEST(Elf, LoadsSegmentsAndZeroesBss) {
  const auto ram = make_ram(32_MiB);
  std::memset(ram->host(Gpa(2_MiB)), 0xcc, 1_MiB);
  const Bytes file = test::make_elf64(2_MiB + 1, {{2_MiB, 0xc0000000, {1, 2, 3}, 9000}, {4_MiB, 0, {9}, 1}});
  auto elf = parse_elf(file);
  ASSERT_TRUE(elf.ok());
  EXPECT_EQ(elf->start(), 2_MiB);
  EXPECT_EQ(elf->end(), 4_MiB + 1);
  EXPECT_EQ(elf->physical_entry(), 2_MiB + 1);
  ASSERT_TRUE(load_elf(*ram, *elf, file).ok());
  EXPECT_EQ(peek<u32>(*ram, 2_MiB), 0x00030201u);
  EXPECT_EQ(peek<u8>(*ram, 2_MiB + 8999), 0);
  EXPECT_EQ(peek<u8>(*ram, 2_MiB + 9000), 0xcc);
  EXPECT_EQ(peek<u8>(*ram, 4_MiB), 9);
}

TEST(Elf, VirtualEntryIsTranslated) {
  auto elf = parse_elf(test::make_elf32(0xc0100004, 0xc0100000, 0x100000, Bytes(16), 16));
  ASSERT_TRUE(elf.ok());
  EXPECT_EQ(elf->physical_entry(), 0x100004u);
  elf->entry = 0x50;
  EXPECT_EQ(elf->physical_entry(), std::nullopt);
}

std::string load_error(GuestRam& ram, const Bytes& file) {
  auto elf = parse_elf(file);
  if (!elf) return elf.error().message;
  const Status loaded = load_elf(ram, *elf, file);
  return loaded ? "" : loaded.error().message;
}

TEST(Elf, SegmentsOutsideUsableRam) {
  const auto ram = make_ram(32_MiB);
  const auto at = [&](u64 physical, u64 size) {
    return load_error(*ram, test::make_elf64(physical, {{physical, physical, {1}, size}}));
  };
  EXPECT_EQ(at(16_MiB, 1_MiB), "");
  EXPECT_THAT(at(16_MiB, 100_MiB), testing::HasSubstr("needs memory up to 116 MiB"));
  EXPECT_THAT(at(0x8000, 16), testing::HasSubstr("below 1 MiB"));
  EXPECT_THAT(at(0xd0000000, 16), testing::HasSubstr("not RAM"));
  EXPECT_THAT(at(~u64{0} - 15, 32), testing::HasSubstr("wraps around"));
}

TEST(Elf, OverlappingSegmentsAreBounded) {
  const auto ram = make_ram(32_MiB);
  const std::vector<test::Segment> many(1000, {1_MiB, 0, {1}, 30_MiB});
  EXPECT_EQ(load_error(*ram, test::make_elf64(1_MiB, many)), "the ELF segments overlap");
}

TEST(Elf, EveryHeaderByteMayBeAnything) {
  const auto ram = make_ram(32_MiB);
  for (const Bytes& file : {test::make_elf64(2_MiB, {{2_MiB, 0, Bytes(64), 128}}),
                            test::make_elf32(0x200000, 0x200000, 0x200000, Bytes(64), 128)}) {
    for (u64 i = 0; i < 64 + 56; ++i)
      for (unsigned v = 0; v < 256; v += i < 20 ? 1 : 15) {
        Bytes bad = file;
        bad[i] = static_cast<u8>(v);
        (void)load_error(*ram, bad);
      }
    for (u64 n = 0; n < file.size(); ++n)
      EXPECT_NE(load_error(*ram, Bytes(file.begin(), file.begin() + n)), "");
  }
}

}  // namespace
}  // namespace deja
