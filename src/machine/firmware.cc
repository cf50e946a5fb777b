#include "machine/firmware.h"

#include <algorithm>

#include "machine/boot_memory.h"
#include "machine/e820.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

constexpr u64 kMinFirmware = 64_KiB, kFirmwareUnit = 4_KiB;
constexpr u64 kMaxShadow = 128_KiB;  // what an i440FX maps below 1 MiB

constexpr const char* kPieceName[AcpiTables::kPieces] = {"etc/acpi/rsdp", "etc/acpi/tables", "etc/acpi/facs"};

// Commands of QEMU's table loader: 128 bytes each (BiosLinkerLoaderEntry in hw/acpi/bios-linker-loader.c).
class LoaderScript {
 public:
  void allocate(const char* file, u32 alignment, bool below_1_mib) {
    begin(1);
    name(file);
    append(bytes_, alignment);
    append(bytes_, static_cast<u8>(below_1_mib ? 2 : 1));
    end();
  }
  void add_pointer(const char* in, const char* target, u32 at, u8 size) {
    begin(2);
    name(in);
    name(target);
    append(bytes_, at);
    append(bytes_, size);
    end();
  }
  void add_checksum(const char* in, u32 at, u32 start, u32 length) {
    begin(3);
    name(in);
    append(bytes_, at);
    append(bytes_, start);
    append(bytes_, length);
    end();
  }
  std::vector<u8> take() { return std::move(bytes_); }

 private:
  static constexpr std::size_t kEntry = 128, kName = 56;
  void begin(u32 command) {
    start_ = bytes_.size();
    append(bytes_, command);
  }
  void name(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    bytes_.resize(bytes_.size() + kName - text.size());
  }
  void end() { bytes_.resize(start_ + kEntry); }

  std::vector<u8> bytes_;
  std::size_t start_ = 0;
};

std::vector<u8> loader_script(const AcpiTables& acpi) {
  LoaderScript script;
  for (unsigned i = 0; i < AcpiTables::kPieces; ++i)
    script.allocate(kPieceName[i], AcpiTables::kAlignment, i == AcpiTables::kRsdp);
  for (const AcpiTables::Pointer& p : acpi.pointers)
    script.add_pointer(kPieceName[p.in], kPieceName[p.target], static_cast<u32>(p.at), p.size);
  for (const AcpiTables::Checksum& c : acpi.checksums)
    script.add_checksum(kPieceName[c.in], static_cast<u32>(c.at), static_cast<u32>(c.start),
                        static_cast<u32>(c.length));
  return script.take();
}

// RAM, and what is neither RAM nor free: firmware makes its own memory map of it.
std::vector<u8> memory_list(const GuestRam& ram) {
  std::vector<u8> out;
  const auto entry = [&](u64 start, u64 size, E820Type type) {
    append(out, start);
    append(out, size);
    append(out, type);
  };
  entry(0, ram.low_size(), E820Type::ram);
  if (ram.high_size()) entry(kHighRamStart, ram.high_size(), E820Type::ram);
  entry(kEcamBase, kEcamSize, E820Type::reserved);
  if (ram.video_size()) entry(kVideoMemory, ram.video_size(), E820Type::reserved);
  return out;
}

template <class T>
std::vector<u8> number(T value) {
  std::vector<u8> out;
  append(out, value);
  return out;
}

}  // namespace

Status check_firmware(const BootFile& firmware) {
  const u64 size = firmware.bytes.size();
  if (size >= kMinFirmware && size <= kMaxRom && size % kFirmwareUnit == 0) return {};
  return make_error(
      "firmware '{}': has {} bytes; a firmware image has 64 KiB to {} MiB, in whole pages of 4 KiB. Debian's "
      "package seabios has one, /usr/share/seabios/bios-256k.bin",
      firmware.path, size, kMaxRom >> 20);
}

FwCfgItems firmware_items(const GuestRam& ram, const AcpiConfig& config,
                          const std::vector<unsigned>& boot_slots) {
  FwCfgItems items;
  items.add_number(FwCfgItems::kRamSize, ram.size(), 8);
  items.add_number(FwCfgItems::kCpuCount, config.vcpu_count, 2);
  items.add_number(FwCfgItems::kMaxCpus, config.vcpu_count, 2);
  std::string order;
  for (const unsigned slot : boot_slots) order += fmt::format("/pci@i0cf8/scsi@{:x}/disk@0,0\n", slot);
  if (!order.empty()) order.back() = '\0';

  AcpiTables acpi = make_acpi_tables(config);
  std::vector<u8> script = loader_script(acpi);
  items.add_file("bootorder", {order.begin(), order.end()});
  items.add_file(kPieceName[AcpiTables::kFacs], std::move(acpi.bytes[AcpiTables::kFacs]));
  items.add_file(kPieceName[AcpiTables::kRsdp], std::move(acpi.bytes[AcpiTables::kRsdp]));
  items.add_file(kPieceName[AcpiTables::kTables], std::move(acpi.bytes[AcpiTables::kTables]));
  items.add_file("etc/boot-fail-wait", number(~u32{0}));  // milliseconds to the next try: none
  items.add_file("etc/e820", memory_list(ram));
  items.add_file("etc/sercon-port", number(u16{kCom1Port}));
  items.add_file("etc/table-loader", std::move(script));
  return items;
}

void load_firmware(GuestRam& ram, const BootFile& firmware) {
  ram.load_rom(firmware.bytes);
  const u64 shadow = std::min<u64>(firmware.bytes.size(), kMaxShadow);
  write_boot(ram, kExtendedStart - shadow, firmware.bytes.last(shadow));
}

}  // namespace deja
