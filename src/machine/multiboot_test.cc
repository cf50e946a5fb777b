#include "machine/multiboot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/boot.h"
#include "machine/e820.h"
#include "machine/images_for_test.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

using test::Bytes;
using test::make_ram;
using test::peek;
using test::poke;
using testing::HasSubstr;

void put_header(Bytes& bytes, u64 offset, u32 flags) {
  poke<u32>(bytes, offset, 0x1badb002);
  poke<u32>(bytes, offset + 4, flags);
  poke<u32>(bytes, offset + 8, 0u - 0x1badb002 - flags);
}

Bytes elf_kernel() {
  Bytes content(256, 0x90);
  put_header(content, 16, 3);
  return test::make_elf32(0x100040, 0x100040 - 0x40, 0x100000, content, 0x3000);
}

// Header at file byte 32, image loaded from file byte 16 to 1 MiB.
Bytes address_kernel() {
  Bytes file(512, 0x90);
  put_header(file, 32, 0x10003);
  poke<u32>(file, 44, 0x100010);  // header_addr
  poke<u32>(file, 48, 0x100000);  // load_addr
  poke<u32>(file, 52, 0x100100);  // load_end_addr
  poke<u32>(file, 56, 0x102000);  // bss_end_addr
  poke<u32>(file, 60, 0x100050);  // entry_addr
  return file;
}

Result<BootLayout> boot(GuestRam& ram, CpuState& cpu, const Bytes& kernel, const Bytes& module = {}) {
  BootConfig config;
  config.kernel = {"test.elf", kernel};
  config.cmdline = "one two";
  if (!module.empty()) config.initrd = BootFile{"module", module};
  return load_guest(ram, cpu, config);
}

TEST(Multiboot, ElfEntryStateAndInformation) {
  const auto ram = make_ram(64_MiB);
  std::memset(ram->host(Gpa(0x100000)), 0xcc, 0x4000);
  CpuState cpu;
  const Bytes module(5000, 'm');
  auto layout = boot(*ram, cpu, elf_kernel(), module);
  ASSERT_TRUE(layout.ok()) << layout.error().message;
  EXPECT_EQ(layout->kind, KernelKind::multiboot);
  EXPECT_EQ(peek<u8>(*ram, 0x100000), 0x90);
  EXPECT_EQ(peek<u8>(*ram, 0x102fff), 0);

  EXPECT_EQ(cpu.rip, 0x100040u);
  EXPECT_EQ(cpu.gpr[RAX], 0x2badb002u);
  EXPECT_TRUE(cpu.protected_mode());
  EXPECT_FALSE(cpu.cr0 & cr0bit::PG);
  EXPECT_FALSE(cpu.long_mode_active());
  EXPECT_EQ(cpu.code_size(), 4u);
  EXPECT_EQ(cpu.seg[CS].limit, 0xffffffffu);
  EXPECT_TRUE(cpu.seg[SS].writable_data() && cpu.seg[SS].big());
  EXPECT_FALSE(cpu.rflags & flag::IF);

  const u64 info = cpu.gpr[RBX];
  const u32 flags = peek<u32>(*ram, info);
  EXPECT_EQ(flags, 0x24du);
  EXPECT_EQ(peek<u32>(*ram, info + 4), 639u);
  EXPECT_EQ(peek<u32>(*ram, info + 8), (64_MiB - 128_KiB - 1_MiB) >> 10);
  EXPECT_STREQ(reinterpret_cast<char*>(ram->host(Gpa(peek<u32>(*ram, info + 16)))), "one two");
  EXPECT_EQ(peek<u32>(*ram, info + 20), 1u);
  const u64 mods = peek<u32>(*ram, info + 24);
  EXPECT_EQ(peek<u32>(*ram, mods), 0x103000u);
  EXPECT_EQ(peek<u32>(*ram, mods + 4), 0x103000u + 5000);
  EXPECT_STREQ(reinterpret_cast<char*>(ram->host(Gpa(peek<u32>(*ram, mods + 8)))), "initrd");
  EXPECT_EQ(peek<u8>(*ram, 0x103000 + 4999), 'm');

  const E820Map map(*ram);
  u64 at = peek<u32>(*ram, info + 48);
  const u64 end = at + peek<u32>(*ram, info + 44);
  for (const E820Entry& e : map.entries()) {
    EXPECT_EQ(peek<u32>(*ram, at), 20u);
    EXPECT_EQ(peek<u64>(*ram, at + 4), e.start);
    EXPECT_EQ(peek<u64>(*ram, at + 12), e.size);
    EXPECT_EQ(peek<u32>(*ram, at + 20), static_cast<u32>(e.type));
    at += 24;
  }
  EXPECT_EQ(at, end);
  EXPECT_STREQ(reinterpret_cast<char*>(ram->host(Gpa(peek<u32>(*ram, info + 64)))), "DejaVM");
}

TEST(Multiboot, AddressFields) {
  const auto ram = make_ram(64_MiB);
  std::memset(ram->host(Gpa(0x100000)), 0xcc, 0x4000);
  CpuState cpu;
  auto layout = boot(*ram, cpu, address_kernel());
  ASSERT_TRUE(layout.ok()) << layout.error().message;
  EXPECT_EQ(cpu.rip, 0x100050u);
  EXPECT_EQ(peek<u32>(*ram, 0x100010), 0x1badb002u);
  EXPECT_EQ(peek<u8>(*ram, 0x1000ff), 0x90);
  EXPECT_EQ(peek<u8>(*ram, 0x100100), 0);
  EXPECT_EQ(peek<u8>(*ram, 0x101fff), 0);
  EXPECT_EQ(peek<u8>(*ram, 0x102000), 0xcc);
  EXPECT_EQ(peek<u32>(*ram, cpu.gpr[RBX] + 20), 0u);  // no modules
}

TEST(Multiboot, HeaderSearch) {
  Bytes file(9000, 0);
  EXPECT_FALSE(is_multiboot(file));
  put_header(file, 8192 - 12, 0);
  EXPECT_TRUE(is_multiboot(file));
  file[8192 - 4] ^= 1;  // checksum
  EXPECT_FALSE(is_multiboot(file));
  Bytes late(9000, 0);
  put_header(late, 8192, 0);
  EXPECT_FALSE(is_multiboot(late));
}

TEST(Multiboot, Messages) {
  const auto ram = make_ram(32_MiB);
  CpuState cpu;
  const auto error = [&](const Bytes& kernel, const Bytes& module = {}) {
    auto layout = boot(*ram, cpu, kernel, module);
    return layout ? std::string() : layout.error().message;
  };
  Bytes file = address_kernel();
  put_header(file, 32, 0x10008);
  EXPECT_THAT(error(file), HasSubstr("kernel 'test.elf': its Multiboot header requires features"));
  file = address_kernel();
  poke<u32>(file, 60, 0x200000);
  EXPECT_THAT(error(file), HasSubstr("entry_addr 0x200000 is outside"));
  file = address_kernel();
  poke<u32>(file, 56, 0x10000000);
  EXPECT_THAT(error(file), HasSubstr("needs memory up to 256 MiB"));
  file = Bytes(512);
  put_header(file, 0, 0);
  EXPECT_THAT(error(file), HasSubstr("not an ELF file"));
  EXPECT_THAT(error(elf_kernel(), Bytes(31_MiB, 1)), HasSubstr("initrd 'module'"));
}

TEST(Multiboot, EveryHeaderByteMayBeAnything) {
  const auto ram = make_ram(32_MiB);
  for (const Bytes& file : {elf_kernel(), address_kernel()})
    for (u64 i = 0; i < 130; ++i)
      for (unsigned v = 0; v < 256; v += 5) {
        Bytes bad = file;
        bad[i] = static_cast<u8>(v);
        CpuState cpu;
        (void)boot(*ram, cpu, bad);
      }
}

}  // namespace
}  // namespace deja
