// A firmware image of our own, run from its reset vector.
#include "machine/firmware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "machine/e820.h"
#include "machine/images_for_test.h"
#include "machine/machine.h"
#include "machine/memory_map.h"

// 64 KiB that stand at FFFF0000h. From the reset vector to flat 32-bit code in the ROM itself; that stores
// into the ROM and into its shadow below 1 MiB, and hands out what both hold then through the debug-exit
// port.
asm(R"(
  .pushsection .rodata
  .code16
test_firmware:
fw_start:
  .byte 0x66; lgdtw %cs:(fw_gdtr - fw_start)
  movl %cr0, %eax
  orl $1, %eax
  movl %eax, %cr0
  ljmpl $8, $(fw_flat - fw_start + 0xffff0000)
  .code32
fw_flat:
  movl $0x10, %eax
  movl %eax, %ds
  movb $0x55, fw_byte - fw_start + 0xffff0000
  movb $0x66, fw_other - fw_start + 0xf0000
  movb fw_byte - fw_start + 0xffff0000, %al
  addb fw_other - fw_start + 0xf0000, %al
  addb fw_other - fw_start + 0xffff0000, %al
  movw $0xf4, %dx
  outb %al, %dx
  hlt
fw_byte:
  .byte 0x10
fw_other:
  .byte 0x02
  .balign 8
fw_gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
fw_gdtr:
  .word 23
  .long fw_gdt - fw_start + 0xffff0000
  .org test_firmware + 0xfff0
  .code16
  .byte 0xe9  # jmp to the start of the segment
  .word 0x000d
  .org test_firmware + 0x10000
  .code64
  .popsection
)");
extern "C" {
extern const deja::u8 test_firmware[];
}

namespace deja {
namespace {

constexpr u64 kSize = 64_KiB;

MachineConfig with_firmware(const std::vector<u8>& bytes) {
  MachineConfig config;
  config.ram_bytes = 32_MiB;
  config.boot.firmware = BootFile{"firmware", bytes};
  return config;
}

TEST(Firmware, StartsAtTheResetVectorInAMemoryThatKeepsItsContent) {
  const std::vector<u8> bytes(test_firmware, test_firmware + kSize);
  auto machine = Machine::create(with_firmware(bytes), {});
  ASSERT_TRUE(machine.ok()) << machine.error().message;
  EXPECT_EQ((*machine)->run(1'000'000), MachineStop::ended);
  EXPECT_EQ((*machine)->end(), MachineEnd::debug_exit);
  // What the ROM held, twice, and what was stored into the shadow.
  EXPECT_EQ((*machine)->exit_status(), (0x10u + 0x66 + 0x02) << 1 | 1);
  EXPECT_EQ((*machine)->ram().digest(), (*machine)->ram().digest_from_scratch());
}

TEST(Firmware, AResetShadowsItAnew) {
  const std::vector<u8> bytes(test_firmware, test_firmware + kSize);
  auto machine = Machine::create(with_firmware(bytes), {});
  ASSERT_TRUE(machine.ok());
  const u8 other = 0x99;
  ASSERT_TRUE((*machine)->ram().write(Gpa(0xf8000), &other, 1));
  (*machine)->reset_button();
  (*machine)->run(1);
  EXPECT_EQ(test::peek<u8>((*machine)->ram(), 0xf8000), 0u);
}

TEST(Firmware, WhatCannotBeFirmwareIsRefused) {
  for (const u64 size : {u64{0}, 4_KiB, 64_KiB + 1, 16_MiB}) {
    const std::vector<u8> bytes(size);
    const auto machine = Machine::create(with_firmware(bytes), {});
    ASSERT_FALSE(machine.ok());
    EXPECT_THAT(machine.error().message, testing::HasSubstr("firmware 'firmware': has"));
  }
}

// Does what the commands of the table loader say, as firmware would, and compares with the tables that a
// kernel finds when it is started directly.
TEST(Firmware, TheTableLoaderBuildsTheTablesOfADirectStart) {
  const auto ram = test::make_ram(64_MiB);
  const AcpiConfig config{2, pci_mmio_start(*ram)};
  write_acpi_tables(*ram, config);
  const FwCfgItems items = firmware_items(*ram, config, {4});

  std::map<std::string, const std::vector<u8>*> files;
  const std::vector<u8>& directory = *items.find(FwCfgItems::kDirectory);
  for (std::size_t at = 4; at < directory.size(); at += 64)
    files[reinterpret_cast<const char*>(&directory[at + 8])] =
        items.find(static_cast<u16>(directory[at + 4] << 8 | directory[at + 5]));
  EXPECT_EQ(std::string(files.at("bootorder")->begin(), files.at("bootorder")->end() - 1),
            "/pci@i0cf8/scsi@4/disk@0,0");

  const E820Map map(*ram);
  const std::map<std::string, u64> place = {
      {"etc/acpi/rsdp", kRsdp}, {"etc/acpi/tables", map.acpi_tables()}, {"etc/acpi/facs", map.acpi_nvs()}};
  std::map<std::string, std::vector<u8>> built;
  const std::vector<u8>& script = *files.at("etc/table-loader");
  for (std::size_t at = 0; at < script.size(); at += 128) {
    const u8* const entry = &script[at];
    const auto number = [&](std::size_t offset) {
      u32 value;
      std::memcpy(&value, entry + offset, 4);
      return value;
    };
    const std::string file = reinterpret_cast<const char*>(entry + 4);
    std::vector<u8>& bytes = built[file];
    switch (number(0)) {
      case 1:
        EXPECT_EQ(number(60), 64u);
        EXPECT_EQ(entry[64], file == "etc/acpi/rsdp" ? 2 : 1) << "the zone";
        bytes = *files.at(file);
        break;
      case 2: {
        u64 value = 0;
        std::memcpy(&value, &bytes.at(number(116)), entry[120]);
        value += place.at(reinterpret_cast<const char*>(entry + 60));
        std::memcpy(&bytes.at(number(116)), &value, entry[120]);
        break;
      }
      case 3: {
        u8 sum = 0;
        for (u32 i = 0; i < number(68); ++i) sum = static_cast<u8>(sum + bytes.at(number(64) + i));
        bytes.at(number(60)) = static_cast<u8>(bytes.at(number(60)) - sum);
        break;
      }
      default:
        FAIL() << "command " << number(0);
    }
  }
  for (const auto& [name, bytes] : built) {
    std::vector<u8> direct(bytes.size());
    ASSERT_TRUE(ram->read(Gpa(place.at(name)), direct.data(), direct.size()));
    EXPECT_EQ(bytes, direct) << name;
  }
}

}  // namespace
}  // namespace deja
