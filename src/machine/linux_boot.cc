#include "machine/linux_boot.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "machine/boot_cpu.h"
#include "machine/boot_memory.h"
#include "machine/bzimage.h"
#include "machine/e820.h"
#include "machine/elf_kernel.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

// struct boot_params, "zero page": one page, filled by offset.
namespace boot_params {
constexpr u64 kSize = 4096;
// struct screen_info, at the start.
constexpr u64 kVideoType = 0x0f, kLfbWidth = 0x12, kLfbHeight = 0x14, kLfbDepth = 0x16, kLfbBase = 0x18,
              kLfbSize = 0x1c, kLfbLineLength = 0x24, kLfbColours = 0x26, kLfbPages = 0x32;
constexpr u64 kAcpiRsdpAddr = 0x070, kE820Entries = 0x1e8, kE820Table = 0x2d0;
constexpr u64 kMaxE820 = 128;
// In the setup header at 1F1h.
constexpr u64 kVidMode = 0x1fa, kBootFlag = 0x1fe, kHeader = 0x202, kVersion = 0x206, kTypeOfLoader = 0x210,
              kCode32Start = 0x214, kRamdiskImage = 0x218, kRamdiskSize = 0x21c, kCmdLinePtr = 0x228,
              kSetupData = 0x250;
}  // namespace boot_params

constexpr u8 kLoaderUndefined = 0xff;  // type_of_loader without an assigned number
constexpr u16 kVideoNormal = 0xffff;   // vid_mode "normal"
constexpr u32 kSetupRngSeed = 9;       // setup_data type
constexpr u64 kEntry64 = 0x200;        // 64-bit entry point in the protected-mode code

// What boot_params needs to know of the kernel. A bare vmlinux has no header: then what Linux 5.x headers
// say.
struct LinuxKernel {
  std::span<const u8> header;
  u32 initrd_addr_max = 0x7fffffff;
  u32 cmdline_size = 2047;  // COMMAND_LINE_SIZE - 1
  u64 start = 0, end = 0;   // physical memory that is the kernel's
  u64 entry = 0;
};

Error in_kernel(const BootConfig& config, const Error& e) {
  return make_error("kernel '{}': {}", config.kernel.path, e.message);
}

class BootParams {
 public:
  template <class T>
  void put(u64 offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof value);
  }
  void put(u64 offset, std::span<const u8> data) {
    std::copy(data.begin(), data.end(), bytes_.begin() + offset);
  }
  std::span<const u8> bytes() const { return bytes_; }

 private:
  std::array<u8, boot_params::kSize> bytes_ = {};
};

// As a UEFI loader reports what the firmware's graphics output has set up, which efifb and simpledrm take.
void put_screen(BootParams& params, const LinearScreen& screen) {
  constexpr u8 kVideoTypeEfi = 0x70;
  // Size and position of red, green, blue and reserved bits.
  constexpr std::array<u8, 8> kColours = {8, 16, 8, 8, 8, 0, 8, 24};
  params.put(boot_params::kVideoType, kVideoTypeEfi);
  params.put(boot_params::kLfbWidth, screen.width);
  params.put(boot_params::kLfbHeight, screen.height);
  params.put(boot_params::kLfbDepth, u16{32});
  params.put(boot_params::kLfbBase, static_cast<u32>(screen.address));
  params.put(boot_params::kLfbSize, screen.stride * screen.height);
  params.put(boot_params::kLfbLineLength, static_cast<u16>(screen.stride));
  params.put(boot_params::kLfbColours, kColours);
  params.put(boot_params::kLfbPages, u16{1});
}

void put_e820(BootParams& params, const GuestRam& ram) {
  const E820Map map(ram);
  DEJA_CHECK(map.entries().size() <= boot_params::kMaxE820);
  u64 offset = boot_params::kE820Table;
  for (const E820Entry& e : map.entries()) {
    params.put(offset, e.start);
    params.put(offset + 8, e.size);
    params.put(offset + 16, e.type);
    offset += 20;
  }
  params.put(boot_params::kE820Entries, static_cast<u8>(map.entries().size()));
}

// Returns the address of the setup_data chain, 0 for none.
u64 write_setup_data(GuestRam& ram, std::span<const u8> seed) {
  if (seed.empty()) return 0;
  DEJA_CHECK(seed.size() <= kMaxRngSeed, "seed of {} bytes", seed.size());
  std::vector<u8> node;
  append(node, u64{0});  // next
  append(node, kSetupRngSeed);
  append(node, static_cast<u32>(seed.size()));
  node.insert(node.end(), seed.begin(), seed.end());
  write_boot(ram, kBootSetupData, node);
  return kBootSetupData;
}

Result<BootLayout> start_linux(GuestRam& ram, CpuState& cpu, const BootConfig& config,
                               const LinuxKernel& kernel) {
  const u64 cmdline_limit = std::min<u64>(kernel.cmdline_size, kBootCmdlineSize - 1);
  if (config.cmdline.size() > cmdline_limit)
    return make_error("command line (--append) of {} bytes is too long: kernel '{}' takes at most {}",
                      config.cmdline.size(), config.kernel.path, cmdline_limit);
  BootLayout layout;
  layout.kernel_start = kernel.start;
  layout.kernel_end = kernel.end;
  layout.entry = kernel.entry;
  if (config.initrd && !config.initrd->bytes.empty()) {
    const BootFile& initrd = *config.initrd;
    const u64 ceiling = u64{kernel.initrd_addr_max} + 1;
    const auto start = place_high(ram, initrd.bytes.size(), kernel.end, ceiling);
    if (!start) {
      const u64 top = std::min(E820Map(ram).low_usable_end(), ceiling);
      return make_error(
          "initrd '{}' of {} bytes ({} MiB) does not fit into RAM: {} MiB are left above the kernel, which "
          "ends at "
          "{} MiB; give the guest more than its {} MiB (-m)",
          initrd.path, initrd.bytes.size(), (initrd.bytes.size() + 1_MiB - 1) >> 20,
          top > kernel.end ? (top - kernel.end) >> 20 : 0, (kernel.end + 1_MiB - 1) >> 20, ram.size() >> 20);
    }
    layout.initrd_start = *start;
    layout.initrd_size = initrd.bytes.size();
    write_boot(ram, *start, initrd.bytes);
  }

  std::vector<u8> cmdline(config.cmdline.begin(), config.cmdline.end());
  cmdline.push_back(0);
  write_boot(ram, kBootCmdline, cmdline);

  BootParams params;
  if (kernel.header.empty()) {
    params.put(boot_params::kBootFlag, u16{0xaa55});
    params.put(boot_params::kHeader, std::array<u8, 4>{'H', 'd', 'r', 'S'});
    params.put(boot_params::kVersion, u16{0x20f});
  } else {
    params.put(kSetupHeader, kernel.header);
  }
  params.put(boot_params::kVidMode, kVideoNormal);
  params.put(boot_params::kTypeOfLoader, kLoaderUndefined);
  params.put(boot_params::kCode32Start, static_cast<u32>(kernel.start));
  params.put(boot_params::kRamdiskImage, static_cast<u32>(layout.initrd_start));
  params.put(boot_params::kRamdiskSize, static_cast<u32>(layout.initrd_size));
  params.put(boot_params::kCmdLinePtr, static_cast<u32>(kBootCmdline));
  params.put(boot_params::kSetupData, write_setup_data(ram, config.rng_seed));
  params.put(boot_params::kAcpiRsdpAddr, kRsdp);
  if (config.screen) put_screen(params, *config.screen);
  put_e820(params, ram);
  write_boot(ram, kBootInfo, params.bytes());

  enter_long_mode(ram, cpu, kernel.entry);
  cpu.gpr[RSI] = kBootInfo;
  return layout;
}

// Loads an ELF64 vmlinux and fills in where it is.
Status load_vmlinux(GuestRam& ram, std::span<const u8> file, LinuxKernel& kernel) {
  DEJA_ASSIGN(const ElfImage elf, parse_elf(file));
  if (!elf.is_64bit || elf.machine != kElfMachineX8664)
    return make_error("it is an ELF{} file for machine {}, not a kernel for x86-64", elf.is_64bit ? 64 : 32,
                      elf.machine);
  if (elf.type != kElfExecutable)
    return make_error("it is an ELF file of type {}, not an executable linked to fixed addresses", elf.type);
  const auto entry = elf.physical_entry();
  if (!entry) return make_error("its entry point {:#x} is in none of its segments", elf.entry);
  DEJA_TRY(load_elf(ram, elf, file));
  kernel.start = elf.start();
  kernel.end = elf.end();
  kernel.entry = *entry;
  return {};
}

}  // namespace

Result<BootLayout> load_linux_bzimage(GuestRam& ram, CpuState& cpu, const BootConfig& config) {
  auto parsed = parse_bzimage(config.kernel.bytes);
  if (!parsed) return in_kernel(config, parsed.error());
  const BzImage& image = *parsed;
  LinuxKernel kernel;
  kernel.header = image.header;
  kernel.initrd_addr_max = image.initrd_addr_max;
  kernel.cmdline_size = image.cmdline_size;
  if (config.mode == BootMode::bzimage) {
    kernel.start = image.preferred_address;
    kernel.end = kernel.start + image.init_size;
    kernel.entry = kernel.start + kEntry64;
    const Status fits = check_loadable(ram, kernel.start, image.init_size);
    if (!fits) return in_kernel(config, fits.error());
    write_boot(ram, kernel.start, image.protected_mode);
  } else {
    auto vmlinux = extract_vmlinux(image);
    if (!vmlinux) return in_kernel(config, vmlinux.error());
    const Status loaded = load_vmlinux(ram, *vmlinux, kernel);
    if (!loaded) return in_kernel(config, loaded.error());
  }
  DEJA_ASSIGN(BootLayout layout, start_linux(ram, cpu, config, kernel));
  layout.kind = KernelKind::linux_bzimage;
  return layout;
}

Result<BootLayout> load_linux_vmlinux(GuestRam& ram, CpuState& cpu, const BootConfig& config) {
  LinuxKernel kernel;
  const Status loaded = load_vmlinux(ram, config.kernel.bytes, kernel);
  if (!loaded) return in_kernel(config, loaded.error());
  DEJA_ASSIGN(BootLayout layout, start_linux(ram, cpu, config, kernel));
  layout.kind = KernelKind::linux_vmlinux;
  return layout;
}

}  // namespace deja
