#include "machine/boot.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "machine/acpi_tables.h"
#include "machine/boot_memory.h"
#include "machine/bzimage.h"
#include "machine/decompress.h"
#include "machine/elf_kernel.h"
#include "machine/linux_boot.h"
#include "machine/memory_map.h"
#include "machine/multiboot.h"

namespace deja {
namespace {

constexpr u64 kMinRam = 32_MiB;

// What a file that is no kernel seems to be.
std::string describe(std::span<const u8> file) {
  if (file.empty()) return "the file is empty";
  struct Known {
    u64 offset;
    std::string_view magic;
    std::string_view what;
  };
  constexpr Known kKnown[] = {
      {0, "070701", "a cpio archive (an initrd?)"},
      {0, "070702", "a cpio archive (an initrd?)"},
      {0, "!<arch>\n", "a .deb package or ar archive; unpack it, the kernel is boot/vmlinuz-* in it"},
      {0, "#!", "a script"},
      {0, "QFI\xfb", "a qcow2 disk image"},
      {0, "KDMV", "a VMDK disk image"},
      {0x40, "\x7f\x10\xda\xbe", "a VDI disk image"},
      {0, "PK\x03\x04", "a ZIP archive"},
      {257, "ustar", "a tar archive"},
      {0x8001, "CD001", "an ISO 9660 image"},
      {56, "ARM\x64", "a Linux kernel for arm64"},
      {0, "\xd6\x50\x52\xe8", "a Multiboot 2 kernel; only Multiboot 1 is supported"},
  };
  for (const Known& k : kKnown)
    if (file.size() >= k.offset + k.magic.size() &&
        std::memcmp(file.data() + k.offset, k.magic.data(), k.magic.size()) == 0)
      return fmt::format("it looks like {}", k.what);
  if (const auto c = detect_compression(file))
    return fmt::format("it looks like {} compressed data (an initrd?)", compression_name(*c));
  if (file.size() >= 2 && file[0] == 'M' && file[1] == 'Z')
    return "it looks like a PE program without a Linux setup header";
  if (file.size() >= 512 && file[510] == 0x55 && file[511] == 0xaa)
    return "it looks like a boot sector or disk image";
  if (std::all_of(file.begin(), file.begin() + std::min<u64>(file.size(), 512),
                  [](u8 c) { return (c >= 0x20 && c < 0x7f) || (c >= 9 && c <= 13); }))
    return "it looks like text";
  std::string bytes;
  for (u64 i = 0; i < std::min<u64>(file.size(), 8); ++i) bytes += fmt::format(" {:02x}", file[i]);
  return fmt::format("it starts with{}", bytes);
}

// What software finds in the BIOS data area: the serial port, the EBDA, the size of conventional memory in
// KiB.
void write_bios_data(GuestRam& ram) {
  zero_boot(ram, kBdaStart, 256);
  store_boot(ram, kBdaStart + 0x00, kCom1Port);
  store_boot(ram, kBdaStart + 0x0e, static_cast<u16>(kEbdaStart >> 4));
  store_boot(ram, kBdaStart + 0x13, static_cast<u16>(kEbdaStart >> 10));
  zero_boot(ram, kEbdaStart, kVideoStart - kEbdaStart);
  store_boot(ram, kEbdaStart, static_cast<u8>((kVideoStart - kEbdaStart) >> 10));
}

}  // namespace

Result<BootLayout> load_guest(GuestRam& ram, CpuState& cpu, const BootConfig& config) {
  if (ram.size() < kMinRam)
    return make_error("{} MiB of RAM (-m) are too few: at least {} MiB are needed", ram.size() >> 20,
                      kMinRam >> 20);
  write_bios_data(ram);
  write_acpi_tables(ram, {config.vcpu_count, config.pci ? pci_mmio_start(ram) : 0});

  const std::span<const u8> file = config.kernel.bytes;
  if (is_bzimage(file)) return load_linux_bzimage(ram, cpu, config);
  if (is_multiboot(file)) return load_multiboot(ram, cpu, config);
  if (is_elf(file)) return load_linux_vmlinux(ram, cpu, config);
  return make_error(
      "kernel '{}' is not a kernel: {}. Expected a Linux bzImage (vmlinuz), an ELF64 vmlinux, or a Multiboot "
      "1 kernel",
      config.kernel.path, describe(file));
}

}  // namespace deja
