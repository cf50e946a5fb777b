#include "machine/multiboot.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/log.h"
#include "machine/boot_cpu.h"
#include "machine/boot_memory.h"
#include "machine/e820.h"
#include "machine/elf_kernel.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

constexpr u32 kHeaderMagic = 0x1badb002;
constexpr u32 kBootloaderMagic = 0x2badb002;  // in EAX at the entry point
constexpr u64 kSearch = 8192;

// Header flags. Bits 0..15 are requirements: page-aligned modules, memory information, video mode.
constexpr u32 kVideoMode = 1 << 2, kKnownRequirements = 7, kAddressFields = 1 << 16;

struct Header {
  u64 file_offset = 0;
  u32 flags = 0;
  u32 header_addr = 0, load_addr = 0, load_end_addr = 0, bss_end_addr = 0,
      entry_addr = 0;  // with kAddressFields
};

std::optional<Header> find_header(std::span<const u8> file) {
  for (u64 i = 0; i + 12 <= std::min<u64>(file.size(), kSearch); i += 4) {
    u32 words[8] = {};
    std::memcpy(words, file.data() + i, 12);
    if (words[0] != kHeaderMagic || words[0] + words[1] + words[2] != 0) continue;
    if (words[1] & kAddressFields) {
      if (file.size() - i < sizeof words) continue;
      std::memcpy(words, file.data() + i, sizeof words);
    }
    return Header{i, words[1], words[3], words[4], words[5], words[6], words[7]};
  }
  return std::nullopt;
}

struct Loaded {
  u64 start = 0, end = 0, entry = 0;
};

// Loads by the addresses in the header (specification section 3.1.3).
Result<Loaded> load_by_header(GuestRam& ram, const Header& h, std::span<const u8> file) {
  if (h.load_addr > h.header_addr || h.header_addr - h.load_addr > h.file_offset)
    return make_error(
        "Multiboot header: load_addr {:#x} does not fit header_addr {:#x} at byte {:#x} of the file",
        h.load_addr, h.header_addr, h.file_offset);
  const u64 offset = h.file_offset - (h.header_addr - h.load_addr);
  u64 size = file.size() - offset;
  if (h.load_end_addr) {
    if (h.load_end_addr < h.load_addr || h.load_end_addr - h.load_addr > size)
      return make_error(
          "Multiboot header: load_end_addr {:#x} wants more than the file's {:#x} bytes from {:#x} on",
          h.load_end_addr, size, h.load_addr);
    size = h.load_end_addr - h.load_addr;
  }
  const u64 end = std::max<u64>(h.load_addr + size, h.bss_end_addr);
  if (h.entry_addr < h.load_addr || h.entry_addr >= end)
    return make_error("Multiboot header: entry_addr {:#x} is outside the image {:#x}..{:#x}", h.entry_addr,
                      h.load_addr, end);
  DEJA_TRY(check_loadable(ram, h.load_addr, end - h.load_addr));
  write_boot(ram, h.load_addr, file.subspan(offset, size));
  zero_boot(ram, h.load_addr + size, end - h.load_addr - size);
  return Loaded{h.load_addr, end, h.entry_addr};
}

Result<Loaded> load_by_elf(GuestRam& ram, std::span<const u8> file) {
  DEJA_ASSIGN(const ElfImage elf, parse_elf(file));
  if (elf.machine != kElfMachine386 && elf.machine != kElfMachineX8664)
    return make_error("it is an ELF file for machine {}, not for x86", elf.machine);
  const auto entry = elf.physical_entry();
  if (!entry) return make_error("its entry point {:#x} is in none of its segments", elf.entry);
  if (*entry >= kMaxLowRam) return make_error("its entry point {:#x} is not RAM below 3 GiB", *entry);
  DEJA_TRY(load_elf(ram, elf, file));
  return Loaded{elf.start(), elf.end(), *entry};
}

Result<Loaded> load_kernel(GuestRam& ram, std::span<const u8> file) {
  const auto header = find_header(file);
  if (!header) return make_error("it has no Multiboot header");
  if (const u32 unknown = header->flags & 0xffff & ~kKnownRequirements)
    return make_error("its Multiboot header requires features that do not exist: flags {:#x}", unknown);
  if (header->flags & kVideoMode) log_info("boot", "Multiboot kernel asks for a video mode; there is none");
  if (header->flags & kAddressFields) return load_by_header(ram, *header, file);
  if (!is_elf(file))
    return make_error("its Multiboot header gives no load addresses, and it is not an ELF file");
  return load_by_elf(ram, file);
}

// Builds the information structure and what it points to, from kBootInfo upwards in one page.
class Information {
 public:
  explicit Information(u64 base) : base_(base), bytes_(kInfoSize) {}
  void put(u64 offset, u32 value) { std::memcpy(bytes_.data() + offset, &value, 4); }
  // Address that the next add() gets.
  u32 here() const { return static_cast<u32>(base_ + bytes_.size()); }
  template <class T>
  void add(T value) {
    append(bytes_, value);
  }
  void add_string(std::string_view s) {
    bytes_.insert(bytes_.end(), s.begin(), s.end());
    bytes_.push_back(0);
    while (bytes_.size() % 4) bytes_.push_back(0);
  }
  const std::vector<u8>& bytes() const { return bytes_; }

 private:
  static constexpr u64 kInfoSize = 120;
  u64 base_;
  std::vector<u8> bytes_;
};

void write_information(GuestRam& ram, const BootLayout& layout) {
  // Specification section 3.3.
  constexpr u64 kFlags = 0, kMemLower = 4, kMemUpper = 8, kCmdline = 16, kModsCount = 20, kModsAddr = 24,
                kMmapLength = 44, kMmapAddr = 48, kBootLoaderName = 64;
  constexpr u32 kHasMemory = 1 << 0, kHasCmdline = 1 << 2, kHasModules = 1 << 3, kHasMmap = 1 << 6,
                kHasName = 1 << 9;
  const E820Map map(ram);
  Information info(kBootInfo);
  info.put(kFlags, kHasMemory | kHasCmdline | kHasModules | kHasMmap | kHasName);
  info.put(kMemLower, static_cast<u32>(kEbdaStart >> 10));
  info.put(kMemUpper, static_cast<u32>((map.low_usable_end() - kExtendedStart) >> 10));
  info.put(kCmdline, static_cast<u32>(kBootCmdline));

  info.put(kModsCount, layout.initrd_size ? 1 : 0);
  info.put(kModsAddr, info.here());
  if (layout.initrd_size) {
    info.add(static_cast<u32>(layout.initrd_start));
    info.add(static_cast<u32>(layout.initrd_start + layout.initrd_size));
    info.add(info.here() + 8);  // its string, behind this structure
    info.add(u32{0});
    info.add_string("initrd");
  }

  const u32 mmap = info.here();
  for (const E820Entry& e : map.entries()) {
    info.add(u32{20});  // size of the rest
    info.add(e.start);
    info.add(e.size);
    info.add(e.type);
  }
  info.put(kMmapAddr, mmap);
  info.put(kMmapLength, info.here() - mmap);
  info.put(kBootLoaderName, info.here());
  info.add_string("DejaVM");
  DEJA_CHECK(info.bytes().size() <= kPageSize);
  write_boot(ram, kBootInfo, info.bytes());
}

}  // namespace

bool is_multiboot(std::span<const u8> file) { return find_header(file).has_value(); }

Result<BootLayout> load_multiboot(GuestRam& ram, CpuState& cpu, const BootConfig& config) {
  auto kernel = load_kernel(ram, config.kernel.bytes);
  if (!kernel) return make_error("kernel '{}': {}", config.kernel.path, kernel.error().message);
  if (config.cmdline.size() >= kBootCmdlineSize)
    return make_error("command line (--append) of {} bytes is too long: at most {}", config.cmdline.size(),
                      kBootCmdlineSize - 1);
  BootLayout layout{KernelKind::multiboot, kernel->start, kernel->end, kernel->entry};
  if (config.initrd && !config.initrd->bytes.empty()) {
    const BootFile& module = *config.initrd;
    // Right behind the kernel, where kernels of this kind expect modules.
    const u64 start = (layout.kernel_end + kPageSize - 1) & ~(kPageSize - 1);
    if (const Status fits = check_loadable(ram, start, module.bytes.size()); !fits || start >= kMaxLowRam)
      return make_error(
          "initrd '{}' of {} bytes ({} MiB) does not fit into RAM behind the kernel, which ends at {} MiB; "
          "give the "
          "guest more than its {} MiB (-m)",
          module.path, module.bytes.size(), (module.bytes.size() + 1_MiB - 1) >> 20,
          (layout.kernel_end + 1_MiB - 1) >> 20, ram.size() >> 20);
    write_boot(ram, start, module.bytes);
    layout.initrd_start = start;
    layout.initrd_size = module.bytes.size();
  }
  std::vector<u8> cmdline(config.cmdline.begin(), config.cmdline.end());
  cmdline.push_back(0);
  write_boot(ram, kBootCmdline, cmdline);
  write_information(ram, layout);
  enter_protected_mode(ram, cpu, layout.entry);
  cpu.gpr[RAX] = kBootloaderMagic;
  cpu.gpr[RBX] = kBootInfo;
  return layout;
}

}  // namespace deja
