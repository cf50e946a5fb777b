#include "linux/kallsyms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "linux/elf_symbols.h"

namespace deja {
namespace {

constexpr u64 kBase = 0xffffffff81000000;

// As scripts/kallsyms.c writes it: token 1 is `first_token`, printable characters stand for themselves; the
// name of symbol 5 ends in `fifth`.
std::vector<u8> make_table(unsigned count, bool numbers, const std::string& first_token = "vfs_",
                           const std::string& fifth = std::string(200, 'x')) {
  std::vector<u8> out(64, 0xcc);
  const auto put = [&](const void* p, std::size_t n) {
    out.insert(out.end(), static_cast<const u8*>(p), static_cast<const u8*>(p) + n);
  };
  const auto align = [&] { out.resize((out.size() + 7) & ~std::size_t{7}); };
  for (unsigned i = 0; i < count; ++i) {
    // The first is absolute, the others from the base on.
    const i32 offset = i == 0 ? 0x40 : -1 - static_cast<i32>(i * 0x10);
    put(&offset, 4);
  }
  align();
  put(&kBase, 8);
  const u64 n = count;
  put(&n, 8);
  const std::size_t names = out.size();
  std::vector<u32> markers;
  for (unsigned i = 0; i < count; ++i) {
    if (i % 256 == 0) markers.push_back(static_cast<u32>(out.size() - names));
    const std::string text = (i % 2 ? "T\1" : "d") + std::to_string(i) + (i == 5 ? fifth : "");
    if (text.size() < 0x80) {
      out.push_back(static_cast<u8>(text.size()));
    } else {
      out.push_back(static_cast<u8>(text.size() & 0x7f) | 0x80);
      out.push_back(static_cast<u8>(text.size() >> 7));
    }
    put(text.data(), text.size());
  }
  align();
  put(markers.data(), markers.size() * 4);
  align();
  if (numbers) {
    out.resize(out.size() + count * 3, 0x11);
    align();
  }
  const std::size_t table = out.size();
  std::vector<u16> index;
  for (unsigned t = 0; t < 256; ++t) {
    index.push_back(static_cast<u16>(out.size() - table));
    const std::string token = t == 1 ? first_token : t == 0 ? "_" : std::string(1, static_cast<char>(t));
    put(token.c_str(), token.size() + 1);
  }
  align();
  put(index.data(), 512);
  out.resize(out.size() + 64, 0xcc);
  return out;
}

TEST(Kallsyms, ReadsBothLayouts) {
  for (const bool numbers : {false, true}) {
    const std::vector<KernelSymbol> symbols = read_kallsyms(make_table(1000, numbers));
    ASSERT_EQ(symbols.size(), 1000u) << numbers;
    EXPECT_EQ(symbols[0].address, 0x40u);
    EXPECT_EQ(symbols[0].name, "0");
    EXPECT_EQ(symbols[0].type, 'd');
    EXPECT_EQ(symbols[3].address, kBase + 0x30);
    EXPECT_EQ(symbols[3].name, "vfs_3");
    EXPECT_EQ(symbols[3].type, 'T');
    EXPECT_EQ(symbols[5].name, "vfs_5" + std::string(200, 'x'));
    EXPECT_EQ(symbols[999].name, "vfs_999");
  }
}

TEST(Kallsyms, WhatHasNoTableHasNoSymbols) {
  EXPECT_TRUE(read_kallsyms({}).empty());
  EXPECT_TRUE(read_kallsyms(std::vector<u8>(100'000, '0')).empty());
}

// A name of two bytes a token and tokens as long as the table may be would take 2 GiB.
TEST(Kallsyms, TokensAndNamesHaveALongestLength) {
  EXPECT_EQ(read_kallsyms(make_table(1000, true, std::string(64, 'v'))).size(), 1000u);
  EXPECT_TRUE(read_kallsyms(make_table(1000, true, std::string(65, 'v'))).empty());

  const std::string most(511 - std::string("vfs_5").size(), 'x');
  EXPECT_EQ(read_kallsyms(make_table(1000, true, "vfs_", most)).size(), 1000u);
  const std::vector<KernelSymbol> symbols = read_kallsyms(make_table(1000, true, "vfs_", most + 'x'));
  ASSERT_EQ(symbols.size(), 999u);
  EXPECT_EQ(symbols[4].name, "4");
  EXPECT_EQ(symbols[5].name, "6");
}

// Each word before the table may be a count of half a million names that end at the table's start.
TEST(Kallsyms, ManyThatMayBeCountsHaveAnEnd) {
  const std::vector<u8> table = make_table(300, false);
  std::vector<u8> file(32_MiB);
  for (std::size_t at = 0; at < file.size(); at += 8) file[at + 2] = 8;
  // Its own names, with another count.
  file.insert(file.end(), table.begin(), table.end());
  const u64 own = 300;
  const auto count = std::search(file.begin() + 32_MiB, file.end(), reinterpret_cast<const u8*>(&own),
                                 reinterpret_cast<const u8*>(&own + 1));
  ASSERT_NE(count, file.end());
  *count = 0;
  *(count + 1) = 0;
  EXPECT_TRUE(read_kallsyms(file).empty());
}

TEST(Kallsyms, AnyBytesAreSafe) {
  std::mt19937_64 random(11);
  const std::vector<u8> good = make_table(600, true);
  for (int round = 0; round < 3000; ++round) {
    std::vector<u8> bad = good;
    for (int i = 0; i < 3; ++i) bad[random() % bad.size()] = static_cast<u8>(random());
    if (round % 8 == 0) bad.resize(random() % bad.size());
    read_kallsyms(bad);
  }
}

TEST(Kallsyms, BecomesAnElfFile) {
  const std::vector<u8> file = symbols_as_elf(read_kallsyms(make_table(1000, true)));
  const auto info = elf_info(file);
  ASSERT_TRUE(info && info->has_symbols);
  const ElfSymbols symbols = ElfSymbols::read(file);
  EXPECT_EQ(symbols.address_of("vfs_7"), kBase + 0x70);
  EXPECT_EQ(symbols.name_of(kBase + 0x74), "vfs_7+0x4");
}

}  // namespace
}  // namespace deja
