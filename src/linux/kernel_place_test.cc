#include "linux/kernel_place.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace deja {
namespace {

constexpr std::string_view kText = "Linux version 6.1.0 (build@host) #1 SMP";
constexpr u64 kBase = 0xffffffff81000000;

// An ELF file with these program headers, and `content` behind them, where their offsets begin.
std::vector<u8> make_elf(std::vector<Elf64_Phdr> headers, const std::string& content) {
  Elf64_Ehdr h{};
  h.e_phoff = sizeof h;
  h.e_phnum = static_cast<Elf64_Half>(headers.size());
  const u64 start = sizeof h + headers.size() * sizeof(Elf64_Phdr);
  for (Elf64_Phdr& p : headers) p.p_offset += start;
  std::vector<u8> out(start + content.size());
  std::memcpy(out.data(), &h, sizeof h);
  std::memcpy(out.data() + sizeof h, headers.data(), headers.size() * sizeof(Elf64_Phdr));
  std::memcpy(out.data() + start, content.data(), content.size());
  return out;
}

Elf64_Phdr load(u64 offset, u64 address, u64 in_file, u64 in_memory) {
  Elf64_Phdr p{};
  p.p_type = PT_LOAD;
  p.p_offset = offset;
  p.p_vaddr = address;
  p.p_filesz = in_file;
  p.p_memsz = in_memory;
  return p;
}

// What looks like the banner and is none, then the banner 100 bytes into the second segment.
std::string sample() {
  std::string content = "%s version %s, Linux version %s\n";
  content.resize(200);
  return content + std::string(kText) + "\n" + std::string(64, '\0');
}

TEST(KernelBanner, IsFoundWithItsAddress) {
  const std::string content = sample();
  const u64 rest = content.size() - 100;
  const auto banner = KernelBanner::find(
      make_elf({load(0, kBase, 100, 100), load(100, kBase + 2_MiB, rest, rest + 4096)}, content));
  ASSERT_TRUE(banner);
  EXPECT_EQ(banner->text, kText);
  EXPECT_EQ(banner->address, kBase + 2_MiB + 100);
}

TEST(KernelBanner, ASegmentThatMemoryHasNoRoomForIsSkipped) {
  const std::string content = sample();
  EXPECT_FALSE(KernelBanner::find(make_elf({load(0, kBase, content.size(), 0)}, content)));
  const auto banner = KernelBanner::find(
      make_elf({load(0, 0, content.size(), 0), load(0, kBase, content.size(), content.size())}, content));
  ASSERT_TRUE(banner);
  EXPECT_EQ(banner->address, kBase + 200);
}

// Otherwise a file of a few hundred MiB would be searched thousands of times.
TEST(KernelBanner, SegmentsThatHaveMoreThanTheFileAreNotSearched) {
  std::string content(4096, 'L');
  std::vector<Elf64_Phdr> headers;
  for (int i = 0; i < 1000; ++i) headers.push_back(load(0, kBase, content.size(), content.size()));
  content += std::string(kText) + "\n";
  headers.push_back(load(4096, kBase, kText.size() + 1, kText.size() + 1));
  EXPECT_FALSE(KernelBanner::find(make_elf(headers, content)));
}

TEST(KernelBanner, AnyBytesAreSafe) {
  EXPECT_FALSE(KernelBanner::find({}));
  const std::string content = sample();
  const std::vector<u8> good = make_elf({load(0, kBase, content.size(), content.size())}, content);
  std::mt19937 random(3);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<u8> bad = good;
    for (unsigned n = random() % 4 + 1; n > 0; --n) bad[random() % bad.size()] = static_cast<u8>(random());
    bad.resize(random() % 4 ? bad.size() : random() % bad.size());
    (void)KernelBanner::find(bad);
  }
}

}  // namespace
}  // namespace deja
