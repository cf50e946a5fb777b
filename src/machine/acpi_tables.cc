#include "machine/acpi_tables.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "machine/aml.h"
#include "machine/boot_memory.h"
#include "machine/e820.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

using Bytes = std::vector<u8>;

void append_text(Bytes& out, std::string_view text) { out.insert(out.end(), text.begin(), text.end()); }

u8 checksum(std::span<const u8> bytes) {
  return static_cast<u8>(-std::accumulate(bytes.begin(), bytes.end(), 0u));
}

// A system description table: the header of section 5.2.6, then its body.
class Table {
 public:
  Table(std::string_view signature, u8 revision) {
    append_text(bytes_, signature);
    append(bytes_, u32{0});  // length, set by finish()
    append(bytes_, revision);
    append(bytes_, u8{0});  // checksum, set by finish()
    append_text(bytes_, "DEJAVM");
    append_text(bytes_, "DEJAVM  ");
    append(bytes_, u32{1});  // OEM revision
    append_text(bytes_, "DEJA");
    append(bytes_, u32{1});  // creator revision
  }
  template <class T>
  void add(T value) {
    append(bytes_, value);
  }
  void add_bytes(const Bytes& more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
  void add_zeros(u64 n) { bytes_.resize(bytes_.size() + n); }
  u64 size() const { return bytes_.size(); }
  // Without its checksum.
  Bytes finish() {
    const u32 length = static_cast<u32>(bytes_.size());
    std::copy_n(reinterpret_cast<const u8*>(&length), 4, bytes_.begin() + 4);
    return std::move(bytes_);
  }

 private:
  Bytes bytes_;
};

// Firmware ACPI Control Structure (5.2.10): the guest's wake vector and global lock, both unused so far.
Bytes make_facs() {
  Bytes out;
  append_text(out, "FACS");
  append(out, u32{64});
  out.resize(32);
  out.push_back(2);  // version
  out.resize(64);
  return out;
}

struct IoBlock {
  u16 port = 0;
  u8 length = 0;       // bytes; 0: there is none
  u8 access_size = 0;  // 1 byte, 2 word, 3 dword
};
constexpr IoBlock kPm1aEvent{kPm1aEventPort, 4, 2};
constexpr IoBlock kPm1aControl{kPm1aControlPort, 2, 2};
constexpr IoBlock kPmTimer{kPmTimerPort, 4, 3};
constexpr IoBlock kGpe0{kGpe0Port, 4, 1};  // 16 status bits, 16 enable bits
constexpr IoBlock kNone{};

// Generic Address Structure (5.2.3.2).
void add_gas(Table& t, const IoBlock& block) {
  t.add(static_cast<u8>(block.length ? 1 : 0));  // system I/O space
  t.add(static_cast<u8>(block.length * 8));
  t.add(u8{0});
  t.add(block.access_size);
  t.add(u64{block.port});
}

// Where tables point to others.
constexpr u64 kFadtFacs = 36, kFadtDsdt = 40, kFadtXDsdt = 140, kXsdtEntries = 36, kRsdpXsdt = 24;

// Fixed ACPI Description Table, revision 6 (5.2.9).
Bytes make_fadt(u64 dsdt) {
  constexpr u16 kLegacyDevices = 1 << 0, k8042 = 1 << 1, kVgaNotPresent = 1 << 2;  // IAPC_BOOT_ARCH
  // FADT flags. PWR_BUTTON (bit 4) clear: the power button is a fixed feature. FIX_RTC (bit 6) clear: so is
  // the alarm of the real-time clock, which can wake the machine; RTC_S4 (bit 7) clear: not from S4, which
  // there is not. TMR_VAL_EXT (bit 8) clear: the PM timer has 24 bits.
  constexpr u32 kWbinvd = 1 << 0, kProcC1 = 1 << 2, kSlpButton = 1 << 5, kResetRegSup = 1 << 10;
  Table t("FACP", 6);
  t.add(u32{0});  // FACS
  t.add(static_cast<u32>(dsdt));
  t.add(u8{0});
  t.add(u8{0});  // preferred PM profile: unspecified
  t.add(static_cast<u16>(kSciIrq));
  t.add(u32{0});   // SMI_CMD: none, the machine is always in ACPI mode
  t.add_zeros(4);  // ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
  for (const IoBlock& b : {kPm1aEvent, kNone, kPm1aControl, kNone, kNone, kPmTimer, kGpe0, kNone})
    t.add(u32{b.port});
  t.add(kPm1aEvent.length);
  t.add(kPm1aControl.length);
  t.add(u8{0});  // PM2_CNT_LEN
  t.add(kPmTimer.length);
  t.add(kGpe0.length);
  t.add_zeros(3);      // GPE1_BLK_LEN, GPE1_BASE, CST_CNT
  t.add(u16{0xffff});  // P_LVL2_LAT, P_LVL3_LAT: no C2, no C3
  t.add(u16{0xffff});
  t.add_zeros(8);   // FLUSH_SIZE, FLUSH_STRIDE, DUTY_OFFSET, DUTY_WIDTH, DAY_ALRM, MON_ALRM
  t.add(u8{0x32});  // CENTURY: its CMOS register
  t.add(static_cast<u16>(kLegacyDevices | k8042 | kVgaNotPresent));
  t.add(u8{0});
  t.add(kWbinvd | kProcC1 | kSlpButton | kResetRegSup);
  add_gas(t, {kResetPort, 1, 1});
  t.add(kResetValue);
  t.add(u16{0});  // ARM_BOOT_ARCH
  t.add(u8{4});   // minor version: ACPI 6.4
  t.add(u64{0});  // X_FIRMWARE_CTRL: the 32-bit field does
  t.add(dsdt);
  for (const IoBlock& b : {kPm1aEvent, kNone, kPm1aControl, kNone, kNone, kPmTimer, kGpe0, kNone})
    add_gas(t, b);
  add_gas(t, kNone);  // SLEEP_CONTROL_REG and SLEEP_STATUS_REG are for hardware-reduced machines
  add_gas(t, kNone);
  t.add_zeros(8);  // hypervisor vendor identity: left to CPUID
  DEJA_CHECK(t.size() == 276);
  return t.finish();
}

// Multiple APIC Description Table, revision 5 (5.2.12).
Bytes make_madt(const AcpiConfig& config) {
  Table t("APIC", 5);
  t.add(static_cast<u32>(kLapicBase));
  t.add(u32{1});  // PCAT_COMPAT: there are 8259s too
  constexpr u32 kEnabled = 1;
  bool x2apic = false;
  for (u32 id = 0; id < config.vcpu_count; ++id) {
    if (id < 255) {  // Processor Local APIC
      t.add(u8{0});
      t.add(u8{8});
      t.add(static_cast<u8>(id));  // processor UID
      t.add(static_cast<u8>(id));
      t.add(kEnabled);
    } else {  // Processor Local x2APIC
      x2apic = true;
      t.add(u8{9});
      t.add(u8{16});
      t.add(u16{0});
      t.add(id);
      t.add(kEnabled);
      t.add(id);  // processor UID
    }
  }
  t.add(u8{1});  // I/O APIC
  t.add(u8{12});
  t.add(u8{0});  // id
  t.add(u8{0});
  t.add(static_cast<u32>(kIoapicBase));
  t.add(u32{0});  // first GSI
  const auto source_override = [&t](unsigned irq, unsigned gsi, u16 flags) {
    t.add(u8{2});
    t.add(u8{10});
    t.add(u8{0});  // ISA
    t.add(static_cast<u8>(irq));
    t.add(static_cast<u32>(gsi));
    t.add(flags);
  };
  source_override(kPitIrq, kPitGsi, 0);       // as the bus has it: edge, active high
  source_override(kSciIrq, kSciIrq, 0x000d);  // level, active high
  t.add(u8{4});                               // Local APIC NMI: LINT1 of every processor
  t.add(u8{6});
  t.add(u8{0xff});
  t.add(u16{0});
  t.add(u8{1});
  if (x2apic) {  // Local x2APIC NMI
    t.add(u8{10});
    t.add(u8{12});
    t.add(u16{0});
    t.add(u32{0xffffffff});
    t.add(u8{1});
    t.add_zeros(3);
  }
  return t.finish();
}

// Where the memory-mapped configuration space is (PCI Firmware Specification 3.2, section 4.1.2).
Bytes make_mcfg() {
  Table t("MCFG", 1);
  t.add_zeros(8);
  t.add(kEcamBase);
  t.add(u16{0});  // segment
  t.add(u8{0});   // first and last bus
  t.add(u8{0});
  t.add_zeros(4);
  return t.finish();
}

Bytes pci_root(u64 mmio_start) {
  using namespace aml;
  // Every slot's four pins go straight to IOAPIC inputs, level-triggered (a source of 0 means a GSI).
  std::vector<Bytes> routes;
  for (u32 slot = 0; slot < 32; ++slot)
    for (u32 pin = 0; pin < 4; ++pin)
      routes.push_back(package(
          {integer(slot << 16 | 0xffff), integer(pin), integer(0), integer(kPciGsiBase + (slot + pin) % 4)}));
  return device("PCI0", concat({name("_HID", eisa_id("PNP0A08")), name("_CID", eisa_id("PNP0A03")),
                                name("_UID", integer(0)), name("_BBN", integer(0)),
                                name("_CRS", resource_template({
                                                 bus_numbers(0, 0),
                                                 io_port(kPciConfigAddressPort, 8),
                                                 io_window(0, kPciConfigAddressPort - 1),
                                                 io_window(kPciConfigAddressPort + 8, 0xffff),
                                                 memory_window(kVideoStart, 0xbffff),
                                                 memory_window(mmio_start, kPciGapStart - 1),
                                                 memory_window(kPciGapEnd, kPciMmioEnd - 1),
                                             })),
                                name("_PRT", package(routes))}));
}

Bytes isa_device(std::string_view path, std::string_view id, std::initializer_list<aml::Bytes> resources) {
  using namespace aml;
  return device(path, concat({name("_HID", eisa_id(id)), name("_CRS", resource_template(resources))}));
}

// No processor objects: they would bring up Linux's ACPI idle driver, whose polling state runs instructions
// where HLT would let virtual time jump.
Bytes make_dsdt(const AcpiConfig& config) {
  using namespace aml;
  Table t("DSDT", 2);
  t.add_bytes(name("\\_S5_", package({integer(kSleepTypeS5), integer(0), integer(0), integer(0)})));
  t.add_bytes(scope(
      "\\_SB_",
      concat({
          config.pci_start ? pci_root(config.pci_start) : aml::Bytes{},
          // Motherboard resources: what no other driver may take.
          isa_device(
              "MBRD", "PNP0C02",
              {io_port(kDebugExitPort, 1), io_port(kResetPort, 1),
               io_port(kPm1aEventPort, kPmPortsEnd - kPm1aEventPort), fixed_memory(kEcamBase, kEcamSize),
               fixed_memory(kIoapicBase, kIoapicSize), fixed_memory(kLapicBase, kLapicSize)}),
          config.fw_cfg ? isa_device("FWCF", "PNP0C02", {io_port(kFwCfgPort, 12)}) : aml::Bytes{},
          isa_device("PIC_", "PNP0000",
                     {io_port(kPicMasterPort, 2), io_port(kPicSlavePort, 2), io_port(kElcrPort, 2), irq(2)}),
          isa_device("TIMR", "PNP0100", {io_port(kPitPort, 4), irq(kPitIrq)}),
          isa_device("SPKR", "PNP0800", {io_port(kPort61, 1)}),
          isa_device("KBD_", "PNP0303",
                     {io_port(k8042DataPort, 1), io_port(k8042CommandPort, 1), irq(kKeyboardIrq)}),
          isa_device("RTC_", "PNP0B00", {io_port(kRtcPort, 2), irq(kRtcIrq)}),
          device("COM1", concat({name("_HID", eisa_id("PNP0501")), name("_UID", integer(1)),
                                 name("_CRS", resource_template({io_port(kCom1Port, 8), irq(kCom1Irq)}))})),
      })));
  return t.finish();
}

}  // namespace

AcpiTables make_acpi_tables(const AcpiConfig& config) {
  DEJA_CHECK(config.vcpu_count >= 1 && config.vcpu_count <= kMaxAcpiVcpus, "{} vCPUs", config.vcpu_count);
  using Piece = AcpiTables::Piece;
  AcpiTables out;
  Bytes& tables = out.bytes[Piece::kTables];
  const auto place = [&](const Bytes& table) {
    tables.resize((tables.size() + AcpiTables::kAlignment - 1) & ~u64{AcpiTables::kAlignment - 1});
    const u64 at = tables.size();
    tables.insert(tables.end(), table.begin(), table.end());
    out.checksums.push_back({Piece::kTables, at + 9, at, table.size()});
    return at;
  };
  out.bytes[Piece::kFacs] = make_facs();
  const u64 dsdt = place(make_dsdt(config));
  const u64 fadt = place(make_fadt(dsdt));
  out.pointers = {{Piece::kTables, fadt + kFadtFacs, 4, Piece::kFacs},
                  {Piece::kTables, fadt + kFadtDsdt, 4, Piece::kTables},
                  {Piece::kTables, fadt + kFadtXDsdt, 8, Piece::kTables}};
  std::vector<u64> listed = {fadt, place(make_madt(config))};
  if (config.pci_start) listed.push_back(place(make_mcfg()));
  Table xsdt("XSDT", 1);
  for (const u64 table : listed) xsdt.add(table);
  const u64 root = place(xsdt.finish());
  for (std::size_t i = 0; i < listed.size(); ++i)
    out.pointers.push_back({Piece::kTables, root + kXsdtEntries + 8 * i, 8, Piece::kTables});

  Bytes& rsdp = out.bytes[Piece::kRsdp];  // 5.2.5.3
  append_text(rsdp, "RSD PTR ");
  append(rsdp, u8{0});  // checksum of the first 20 bytes
  append_text(rsdp, "DEJAVM");
  append(rsdp, u8{2});   // revision
  append(rsdp, u32{0});  // no RSDT
  append(rsdp, u32{36});
  append(rsdp, root);
  append(rsdp, u32{0});  // checksum of the whole, and three reserved bytes
  out.pointers.push_back({Piece::kRsdp, kRsdpXsdt, 8, Piece::kTables});
  out.checksums.push_back({Piece::kRsdp, 8, 0, 20});
  out.checksums.push_back({Piece::kRsdp, 32, 0, rsdp.size()});
  return out;
}

void write_acpi_tables(GuestRam& ram, const AcpiConfig& config) {
  AcpiTables acpi = make_acpi_tables(config);
  const E820Map map(ram);
  DEJA_CHECK(acpi.bytes[AcpiTables::kTables].size() <= kAcpiTablesSize, "ACPI tables overflow their area");
  zero_boot(ram, map.acpi_tables(), kAcpiTablesSize + kAcpiNvsSize);
  const u64 address[AcpiTables::kPieces] = {kRsdp, map.acpi_tables(), map.acpi_nvs()};
  for (const AcpiTables::Pointer& p : acpi.pointers) {
    u64 value = 0;
    u8* const field = &acpi.bytes[p.in][p.at];
    std::memcpy(&value, field, p.size);
    value += address[p.target];
    std::memcpy(field, &value, p.size);
  }
  for (const AcpiTables::Checksum& c : acpi.checksums)
    acpi.bytes[c.in][c.at] = checksum({&acpi.bytes[c.in][c.start], c.length});
  for (unsigned i = 0; i < AcpiTables::kPieces; ++i) write_boot(ram, address[i], acpi.bytes[i]);
}

}  // namespace deja
