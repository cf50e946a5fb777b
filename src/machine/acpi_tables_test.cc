#include "machine/acpi_tables.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "machine/aml.h"
#include "machine/e820.h"
#include "machine/images_for_test.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

using test::Bytes;
using test::make_ram;
using test::peek;

Bytes copy(const GuestRam& ram, u64 address, u64 size) {
  Bytes out(size);
  EXPECT_TRUE(ram.read(Gpa(address), out.data(), size));
  return out;
}
u8 sum(const Bytes& bytes) {
  u8 s = 0;
  for (const u8 b : bytes) s = static_cast<u8>(s + b);
  return s;
}
template <class T>
T get(const Bytes& bytes, u64 offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Follows the pointers as an operating system does; checks every checksum and that all lie in the ACPI area.
std::map<std::string, Bytes> walk(const GuestRam& ram) {
  const E820Map map(ram);
  std::map<std::string, Bytes> tables;
  const auto table = [&](u64 address) {
    EXPECT_GE(address, map.acpi_tables());
    const u32 length = peek<u32>(ram, address + 4);
    EXPECT_LE(address + length, map.acpi_nvs());
    const Bytes bytes = copy(ram, address, length);
    EXPECT_EQ(sum(bytes), 0);
    tables[std::string(bytes.begin(), bytes.begin() + 4)] = bytes;
    return bytes;
  };
  const Bytes rsdp = copy(ram, kRsdp, 36);
  EXPECT_EQ(std::string(rsdp.begin(), rsdp.begin() + 8), "RSD PTR ");
  EXPECT_EQ(sum(Bytes(rsdp.begin(), rsdp.begin() + 20)), 0);
  EXPECT_EQ(sum(rsdp), 0);
  EXPECT_EQ(kRsdp % 16, 0u);
  const Bytes xsdt = table(get<u64>(rsdp, 24));
  for (u64 i = 36; i < xsdt.size(); i += 8) table(get<u64>(xsdt, i));
  table(get<u64>(tables.at("FACP"), 140));
  EXPECT_EQ(get<u32>(tables.at("FACP"), 36), map.acpi_nvs());
  return tables;
}

TEST(AcpiTables, ChecksumsAndPointersAtEverySize) {
  for (const u64 size : {32_MiB, 2_GiB, 3_GiB, 4_GiB, 16_GiB}) {
    const auto ram = make_ram(size);
    write_acpi_tables(*ram, {1, true});
    const auto tables = walk(*ram);
    EXPECT_TRUE(tables.contains("XSDT") && tables.contains("FACP") && tables.contains("APIC") &&
                tables.contains("DSDT"));
    const u64 facs = E820Map(*ram).acpi_nvs();
    EXPECT_EQ(peek<u32>(*ram, facs), get<u32>({'F', 'A', 'C', 'S'}, 0));
    EXPECT_EQ(peek<u32>(*ram, facs + 4), 64u);
  }
}

TEST(AcpiTables, AreaIsRewrittenWhole) {
  const auto ram = make_ram(32_MiB), fresh = make_ram(32_MiB);
  const E820Map map(*ram);
  std::memset(ram->host(Gpa(map.acpi_tables())), 0xaa, 128_KiB);
  write_acpi_tables(*ram, {2, false});
  write_acpi_tables(*fresh, {2, false});
  EXPECT_EQ(copy(*ram, map.acpi_tables(), 128_KiB), copy(*fresh, map.acpi_tables(), 128_KiB));
}

TEST(AcpiTables, FadtFields) {
  const auto ram = make_ram(32_MiB);
  write_acpi_tables(*ram, {1, false});
  const Bytes fadt = walk(*ram).at("FACP");
  ASSERT_EQ(fadt.size(), 276u);
  EXPECT_EQ(get<u16>(fadt, 46), 9);               // SCI_INT
  EXPECT_EQ(get<u32>(fadt, 48), 0u);              // SMI_CMD
  EXPECT_EQ(get<u32>(fadt, 56), 0x600u);          // PM1a_EVT_BLK
  EXPECT_EQ(get<u32>(fadt, 64), 0x604u);          // PM1a_CNT_BLK
  EXPECT_EQ(get<u32>(fadt, 76), 0x608u);          // PM_TMR_BLK
  EXPECT_EQ(get<u16>(fadt, 109) & 2, 2);          // 8042 present
  EXPECT_EQ(get<u32>(fadt, 112) & (1 << 8), 0u);  // TMR_VAL_EXT
  EXPECT_EQ(get<u32>(fadt, 112) & (1 << 6), 0u);  // FIX_RTC: the alarm is a fixed event
  EXPECT_EQ(get<u64>(fadt, 120), 0xcf9u);         // RESET_REG
  EXPECT_EQ(fadt[128], 6);                        // RESET_VALUE
  EXPECT_EQ(get<u64>(fadt, 152), 0x600u);         // X_PM1a_EVT_BLK
  EXPECT_EQ(get<u64>(fadt, 212), 0x608u);         // X_PM_TMR_BLK
}

// Subtables of the MADT, counted by type.
std::map<unsigned, unsigned> madt_types(const Bytes& madt) {
  std::map<unsigned, unsigned> types;
  u64 at = 44;
  while (at + 2 <= madt.size() && madt[at + 1] >= 2) {
    ++types[madt[at]];
    at += madt[at + 1];
  }
  EXPECT_EQ(at, madt.size());
  return types;
}

TEST(AcpiTables, MadtListsEveryVcpu) {
  const auto ram = make_ram(32_MiB);
  const auto types = [&](unsigned vcpus) {
    write_acpi_tables(*ram, {vcpus, false});
    return madt_types(walk(*ram).at("APIC"));
  };
  using Counts = std::map<unsigned, unsigned>;
  EXPECT_EQ(types(1), (Counts{{0, 1}, {1, 1}, {2, 2}, {4, 1}}));
  EXPECT_EQ(types(255), (Counts{{0, 255}, {1, 1}, {2, 2}, {4, 1}}));
  EXPECT_EQ(types(300), (Counts{{0, 255}, {9, 45}, {1, 1}, {2, 2}, {4, 1}, {10, 1}}));
  EXPECT_EQ(types(kMaxAcpiVcpus)[9], kMaxAcpiVcpus - 255);
}

// --- AML.

TEST(Aml, Integers) {
  EXPECT_EQ(aml::integer(0), (Bytes{0}));
  EXPECT_EQ(aml::integer(1), (Bytes{1}));
  EXPECT_EQ(aml::integer(0xff), (Bytes{0x0a, 0xff}));
  EXPECT_EQ(aml::integer(0x100), (Bytes{0x0b, 0x00, 0x01}));
  EXPECT_EQ(aml::integer(0x10000), (Bytes{0x0c, 0, 0, 1, 0}));
  EXPECT_EQ(aml::integer(u64{1} << 32), (Bytes{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, EisaId) { EXPECT_EQ(aml::eisa_id("PNP0A03"), (Bytes{0x0c, 0x41, 0xd0, 0x0a, 0x03})); }

TEST(Aml, S5Package) {
  const Bytes expected{0x08, '_', 'S', '5', '_', 0x12, 0x07, 0x04, 0x0a, 0x05, 0, 0, 0};
  EXPECT_EQ(
      aml::name("_S5_", aml::package({aml::integer(5), aml::integer(0), aml::integer(0), aml::integer(0)})),
      expected);
}

TEST(Aml, PkgLengthEncodings) {
  // The head of a scope with n bytes of terms; the length counts itself and the name.
  const auto head = [](u64 n) {
    const Bytes out = aml::scope("\\_SB_", Bytes(n, 0));
    EXPECT_EQ(out[0], 0x10);
    const unsigned extra = out[1] >> 6;
    u64 length = extra ? out[1] & 0xf : out[1] & 0x3f;
    for (unsigned i = 0; i < extra; ++i) length |= u64{out[2 + i]} << (4 + 8 * i);
    EXPECT_EQ(length, out.size() - 1);
    return extra;
  };
  EXPECT_EQ(head(63 - 1 - 5), 0u);
  EXPECT_EQ(head(63 - 5), 1u);
  EXPECT_EQ(head(4095 - 2 - 5), 1u);
  EXPECT_EQ(head(4095 - 1 - 5), 2u);
  EXPECT_EQ(head((1 << 20) - 1 - 3 - 5), 2u);
  EXPECT_EQ(head((1 << 20) - 3 - 5), 3u);
}

TEST(Aml, ResourceTemplate) {
  const Bytes expected{0x11, 0x10, 0x0a, 0x0d, 0x47, 0x01, 0xf8, 0x03, 0xf8,
                       0x03, 0x01, 0x08, 0x22, 0x10, 0x00, 0x79, 0x00};
  EXPECT_EQ(aml::resource_template({aml::io_port(0x3f8, 8), aml::irq(4)}), expected);
}

// Walks the package structure of the DSDT: every length ends exactly where its parent says.
void check_terms(const Bytes& d, u64 at, u64 end, std::vector<std::string>& devices) {
  const auto pkg_end = [&](u64& p) {
    const u64 start = p;
    const unsigned extra = d[p] >> 6;
    u64 length = extra ? d[p] & 0xf : d[p] & 0x3f;
    for (unsigned i = 0; i < extra; ++i) length |= u64{d[p + 1 + i]} << (4 + 8 * i);
    p += 1 + extra;
    return start + length;
  };
  while (at < end) {
    if (d[at] == 0x10) {  // ScopeOp "\xxxx"
      u64 p = at + 1;
      const u64 next = pkg_end(p);
      ASSERT_LE(next, end);
      check_terms(d, p + 5, next, devices);
      at = next;
    } else if (d[at] == 0x5b && d[at + 1] == 0x82) {  // DeviceOp
      u64 p = at + 2;
      const u64 next = pkg_end(p);
      ASSERT_LE(next, end);
      devices.emplace_back(d.begin() + static_cast<i64>(p), d.begin() + static_cast<i64>(p) + 4);
      check_terms(d, p + 4, next, devices);
      at = next;
    } else {
      ASSERT_EQ(d[at], 0x08) << at;  // NameOp
      u64 p = at + 1 + (d[at + 1] == '\\') + 4;
      switch (d[p]) {
        case 0x00:
        case 0x01:
          at = p + 1;
          break;
        case 0x0a:
          at = p + 2;
          break;
        case 0x0c:
          at = p + 5;
          break;
        case 0x11:
        case 0x12:
          at = pkg_end(++p);
          break;
        default:
          FAIL() << "opcode " << int{d[p]} << " at " << p;
      }
      ASSERT_LE(at, end);
    }
  }
  EXPECT_EQ(at, end);
}

TEST(AcpiTables, McfgNamesTheConfigurationSpaceOfBus0) {
  const auto ram = make_ram(32_MiB);
  write_acpi_tables(*ram, {1, true});
  const Bytes mcfg = walk(*ram).at("MCFG");
  ASSERT_EQ(mcfg.size(), 60u);
  EXPECT_EQ(get<u64>(mcfg, 44), kEcamBase);
  EXPECT_EQ(get<u32>(mcfg, 52), 0u);  // segment 0, buses 0 to 0
  write_acpi_tables(*ram, {1, false});
  EXPECT_FALSE(walk(*ram).contains("MCFG"));
}

TEST(AcpiTables, DsdtStructure) {
  const auto ram = make_ram(32_MiB);
  const auto devices = [&](bool pci) {
    write_acpi_tables(*ram, {1, pci});
    const Bytes dsdt = walk(*ram).at("DSDT");
    std::vector<std::string> names;
    check_terms(dsdt, 36, dsdt.size(), names);
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(devices(false), (Names{"MBRD", "PIC_", "TIMR", "SPKR", "KBD_", "RTC_", "COM1"}));
  EXPECT_EQ(devices(true), (Names{"PCI0", "MBRD", "PIC_", "TIMR", "SPKR", "KBD_", "RTC_", "COM1"}));
}

}  // namespace
}  // namespace deja
