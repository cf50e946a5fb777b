#include "machine/boot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/boot_cpu.h"
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

BootConfig config_for(const Bytes& kernel) {
  BootConfig config;
  config.kernel = {"vmlinuz", kernel};
  config.cmdline = "console=ttyS0 quiet";
  return config;
}
std::string text(const GuestRam& ram, u64 address) {
  return reinterpret_cast<const char*>(ram.host(Gpa(address)));
}

Bytes bzimage() { return test::make_bzimage(test::make_lz4_payload(test::make_vmlinux())); }

std::string boot_error(u64 ram_size, const BootConfig& config) {
  const auto ram = make_ram(ram_size);
  CpuState cpu;
  const auto layout = load_guest(*ram, cpu, config);
  return layout ? "" : layout.error().message;
}

// Translates through the boot page tables.
u64 walk(const GuestRam& ram, const CpuState& cpu, u64 address) {
  const u64 pml4e = peek<u64>(ram, cpu.cr3 + ((address >> 39) & 511) * 8);
  const u64 pdpte = peek<u64>(ram, (pml4e & ~u64{0xfff}) + ((address >> 30) & 511) * 8);
  const u64 pde = peek<u64>(ram, (pdpte & ~u64{0xfff}) + ((address >> 21) & 511) * 8);
  EXPECT_EQ(pml4e & pdpte & pde & 3, 3u);
  EXPECT_TRUE(pde & 0x80);
  return (pde & ~u64{0x1fffff}) + (address & 0x1fffff);
}

TEST(LinuxBoot, VmlinuxFromBzImage) {
  const auto ram = make_ram(64_MiB);
  std::memset(ram->host(Gpa(16_MiB)), 0xcc, 1_MiB);
  const Bytes kernel = bzimage(), initrd(10000, 'i');
  BootConfig config = config_for(kernel);
  config.initrd = BootFile{"initrd", initrd};
  config.rng_seed = {1, 2, 3, 4, 5};
  CpuState cpu;
  auto layout = load_guest(*ram, cpu, config);
  ASSERT_TRUE(layout.ok()) << layout.error().message;

  EXPECT_EQ(layout->kind, KernelKind::linux_bzimage);
  EXPECT_EQ(layout->kernel_start, 16_MiB);
  EXPECT_EQ(layout->kernel_end, 16_MiB + 20000);
  EXPECT_EQ(peek<u8>(*ram, 16_MiB), 1);
  EXPECT_EQ(peek<u8>(*ram, 16_MiB + 19999), 0);
  EXPECT_EQ(peek<u8>(*ram, 16_MiB + 20000), 0xcc);

  EXPECT_EQ(cpu.rip, 16_MiB);
  EXPECT_EQ(cpu.gpr[RSI], kBootInfo);
  EXPECT_TRUE(cpu.mode64());
  EXPECT_EQ(cpu.cpl(), 0u);
  EXPECT_EQ(cpu.rflags, flag::kReserved1);
  EXPECT_EQ(cpu.seg[CS].selector, 0x10);
  EXPECT_EQ(cpu.seg[SS].selector, 0x18);
  EXPECT_TRUE(cpu.seg[CS].code() && cpu.seg[CS].readable() && cpu.seg[DS].writable_data());
  EXPECT_EQ(peek<u64>(*ram, cpu.gdtr.base + 0x10), 0x00af9b000000ffffu);
  EXPECT_EQ(peek<u64>(*ram, cpu.gdtr.base + 0x18), 0x00cf93000000ffffu);
  for (const u64 address : {u64{0}, kBootInfo, 16_MiB + 12345, 1_GiB, 4_GiB - 1})
    EXPECT_EQ(walk(*ram, cpu, address), address);

  const u64 params = kBootInfo;
  EXPECT_EQ(peek<u16>(*ram, params + 0x1fe), 0xaa55);
  EXPECT_EQ(peek<u16>(*ram, params + 0x206), 0x20f);
  EXPECT_EQ(peek<u8>(*ram, params + 0x210), 0xff);
  EXPECT_EQ(peek<u8>(*ram, params + 0x1ef), 0);  // sentinel
  EXPECT_EQ(text(*ram, peek<u32>(*ram, params + 0x228)), config.cmdline);
  EXPECT_EQ(peek<u64>(*ram, params + 0x70), kRsdp);
  const u64 initrd_at = peek<u32>(*ram, params + 0x218);
  EXPECT_EQ(initrd_at, layout->initrd_start);
  EXPECT_EQ(initrd_at % kPageSize, 0u);
  EXPECT_EQ(peek<u32>(*ram, params + 0x21c), 10000u);
  EXPECT_EQ(peek<u8>(*ram, initrd_at + 9999), 'i');

  const u64 node = peek<u64>(*ram, params + 0x250);
  EXPECT_EQ(peek<u64>(*ram, node), 0u);
  EXPECT_EQ(peek<u32>(*ram, node + 8), 9u);
  EXPECT_EQ(peek<u32>(*ram, node + 12), 5u);
  EXPECT_EQ(peek<u32>(*ram, node + 16), 0x04030201u);

  const E820Map map(*ram);
  ASSERT_EQ(peek<u8>(*ram, params + 0x1e8), map.entries().size());
  for (u64 i = 0; i < map.entries().size(); ++i) {
    EXPECT_EQ(peek<u64>(*ram, params + 0x2d0 + 20 * i), map.entries()[i].start);
    EXPECT_EQ(peek<u64>(*ram, params + 0x2d8 + 20 * i), map.entries()[i].size);
    EXPECT_EQ(peek<u32>(*ram, params + 0x2e0 + 20 * i), static_cast<u32>(map.entries()[i].type));
  }
  EXPECT_EQ(peek<u16>(*ram, 0x40e), 0x9fc0);  // EBDA segment
  EXPECT_EQ(peek<u16>(*ram, 0x413), 639);     // KiB of conventional memory
}

TEST(LinuxBoot, OwnDecompressor) {
  const auto ram = make_ram(64_MiB);
  const Bytes kernel = bzimage();
  BootConfig config = config_for(kernel);
  config.mode = BootMode::bzimage;
  CpuState cpu;
  auto layout = load_guest(*ram, cpu, config);
  ASSERT_TRUE(layout.ok()) << layout.error().message;
  EXPECT_EQ(cpu.rip, 16_MiB + 0x200);
  EXPECT_EQ(layout->kernel_end, 17_MiB);  // init_size
  EXPECT_EQ(peek<u32>(*ram, 16_MiB), 0x03020100u);
  EXPECT_EQ(peek<u64>(*ram, kBootInfo + 0x250), 0u);  // no seed, no setup_data
}

TEST(LinuxBoot, BareVmlinux) {
  const auto ram = make_ram(64_MiB);
  const Bytes kernel = test::make_vmlinux();
  CpuState cpu;
  auto layout = load_guest(*ram, cpu, config_for(kernel));
  ASSERT_TRUE(layout.ok()) << layout.error().message;
  EXPECT_EQ(layout->kind, KernelKind::linux_vmlinux);
  EXPECT_EQ(peek<u32>(*ram, kBootInfo + 0x202), 0x53726448u);
}

TEST(LinuxBoot, InitrdStaysBelowInitrdAddrMax) {
  const auto ram = make_ram(3_GiB);
  Bytes kernel = bzimage();
  poke<u32>(kernel, 0x22c, 0x37ffffff);
  const Bytes initrd(5000, 'i');
  BootConfig config = config_for(kernel);
  config.initrd = BootFile{"initrd", initrd};
  CpuState cpu;
  auto layout = load_guest(*ram, cpu, config);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->initrd_start, 0x38000000u - 8192);
}

// What is left in RAM from before a reboot changes nothing.
TEST(LinuxBoot, RebootGivesTheSameState) {
  const auto fresh = make_ram(64_MiB), used = make_ram(64_MiB);
  const Bytes kernel = bzimage();
  CpuState first, second;
  ASSERT_TRUE(load_guest(*fresh, first, config_for(kernel)).ok());
  ASSERT_TRUE(load_guest(*used, second, config_for(kernel)).ok());
  for (const u64 at : {kBdaStart, kBootInfo, kBootPageTables, kEbdaStart, 16_MiB, 16_MiB + 6000})
    std::memset(used->host(Gpa(at)), 0xee, 64);
  ASSERT_TRUE(load_guest(*used, second, config_for(kernel)).ok());
  EXPECT_EQ(fresh->digest_from_scratch(), used->digest_from_scratch());
  EXPECT_EQ(first.rip, second.rip);
}

TEST(LoadGuest, Messages) {
  const Bytes kernel = bzimage(), big(40_MiB, 1);
  EXPECT_EQ(boot_error(64_MiB, config_for(kernel)), "");
  EXPECT_THAT(boot_error(16_MiB, config_for(kernel)), HasSubstr("at least 32 MiB"));
  BootConfig config = config_for(kernel);
  config.initrd = BootFile{"big.cpio", big};
  EXPECT_THAT(boot_error(32_MiB, config),
              HasSubstr("initrd 'big.cpio' of 41943040 bytes (40 MiB) does not fit"));
  config = config_for(kernel);
  config.cmdline.assign(2048, 'x');
  EXPECT_THAT(boot_error(64_MiB, config),
              HasSubstr("(--append) of 2048 bytes is too long: kernel 'vmlinuz' takes at most 2047"));
  config.cmdline.pop_back();
  EXPECT_EQ(boot_error(64_MiB, config), "");

  Bytes large = kernel;
  poke<u32>(large, 0x260, 0x10000000);
  config = config_for(large);
  config.mode = BootMode::bzimage;
  EXPECT_THAT(boot_error(64_MiB, config), HasSubstr("needs memory up to 272 MiB"));

  const auto named = [&](std::string_view content) {
    const Bytes bytes(content.begin(), content.end());
    return boot_error(64_MiB, config_for(bytes));
  };
  EXPECT_THAT(named(""), HasSubstr("'vmlinuz' is not a kernel: the file is empty"));
  EXPECT_THAT(named("hello\n"), HasSubstr("looks like text"));
  EXPECT_THAT(named("070701000"), HasSubstr("cpio archive"));
  EXPECT_THAT(named("\x1f\x8b\x08"), HasSubstr("gzip compressed data"));
  EXPECT_THAT(named("\x01\x02\x03"), HasSubstr("it starts with 01 02 03"));
  Bytes shared = test::make_vmlinux();
  poke<u16>(shared, 16, 3);
  EXPECT_THAT(boot_error(64_MiB, config_for(shared)), HasSubstr("ELF file of type 3"));
}

TEST(LoadGuest, EverySetupHeaderByteMayBeAnything) {
  const Bytes kernel = bzimage(), initrd(100, 'i');
  const auto ram = make_ram(64_MiB);
  for (const BootMode mode : {BootMode::vmlinux, BootMode::bzimage})
    for (u64 i = 0x1f0; i < 0x270; ++i)
      for (const unsigned v : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
        Bytes bad = kernel;
        bad[i] = static_cast<u8>(v);
        BootConfig config = config_for(bad);
        config.mode = mode;
        config.initrd = BootFile{"initrd", initrd};
        CpuState cpu;
        const auto layout = load_guest(*ram, cpu, config);
        EXPECT_TRUE(!layout || ram->contains(Gpa(cpu.rip)));
      }
}

TEST(BootCpu, FirmwareMtrrs) {
  CpuState cpu;
  set_firmware_mtrrs(cpu, 3_GiB, 40);
  EXPECT_EQ(cpu.msr.mtrr_def_type, 0xc06u);
  EXPECT_EQ(cpu.msr.mtrr_phys[0], 0xc0000000u);
  EXPECT_EQ(cpu.msr.mtrr_phys[1], 0xffc0000800u);
}

}  // namespace
}  // namespace deja
