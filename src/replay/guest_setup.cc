#include "replay/guest_setup.h"

#include <bit>
#include <cstring>

#include "base/parse_number.h"
#include "base/sha256.h"

namespace deja {
namespace {

Result<MacAddress> parse_mac(std::string_view text) {
  MacAddress mac{};
  bool ok = text.size() == 17;
  for (std::size_t i = 0; ok && i < mac.size(); ++i) {
    const std::optional<u8> byte = parse_number<u8>(text.substr(3 * i, 2), 16);
    mac[i] = byte.value_or(0);
    ok = byte && (i == 5 || text[3 * i + 2] == ':');
  }
  if (!ok || (mac[0] & 1)) return make_error("'{}' is not the address of a network card", text);
  return mac;
}

LoadedFile from_disk(const DiskImage& disk, const std::string& path, std::vector<u8> bytes) {
  LoadedFile file{fmt::format("{}:{}", disk.path, path), std::move(bytes), {}};
  file.sha256 = sha256_hex(file.bytes);
  return file;
}

// Its setup header, as the Linux boot protocol has it: what no boot sector of a disk looks like.
bool is_linux_kernel(const DiskImage& image) {
  constexpr u64 kHeader = 0x202;
  u8 start[1024] = {};
  if (image.format != "raw" || image.content->size() < sizeof start || !image.content->read(0, start))
    return false;
  return start[0x1fe] == 0x55 && start[0x1ff] == 0xaa && std::memcmp(start + kHeader, "HdrS", 4) == 0;
}

Status take_kernel_from_disk(GuestFiles* files) {
  if (files->drives.empty()) return make_error("no guest: name a disk image, or give --kernel");
  const DiskImage& disk = files->drives[0];
  auto found = disk.find_boot();
  if (!found)
    return make_error(
        "disk image '{}': no kernel was found on it ({}); give --kernel and --initrd, or --firmware seabios",
        disk.path, found.error().message);
  files->kernel = from_disk(disk, found->kernel_path, std::move(found->kernel));
  if (!found->initrd_path.empty())
    files->initrd = from_disk(disk, found->initrd_path, std::move(found->initrd));
  files->root_argument =
      found->partition ? fmt::format("root=/dev/vda{}", found->partition) : "root=/dev/vda";
  return {};
}

Status check_block_sizes(const BlockSizes& blocks, const DiskImage& disk) {
  const auto is_possible = [](u32 size, u32 largest) {
    return std::has_single_bit(size) && size >= BlockSizes::kSmallest && size <= largest;
  };
  if (!is_possible(blocks.logical, BlockSizes::kLargestLogical))
    return make_error("disk image '{}': logical_block_size={}: a power of two from {} to {} is possible",
                      disk.path, blocks.logical, BlockSizes::kSmallest, BlockSizes::kLargestLogical);
  if (!is_possible(blocks.physical, BlockSizes::kLargestPhysical) || blocks.physical < blocks.logical)
    return make_error("disk image '{}': physical_block_size={}: a power of two from {} to {} is possible",
                      disk.path, blocks.physical, blocks.logical, BlockSizes::kLargestPhysical);
  const u64 size = disk.content->size();
  // Sectors of 512 bytes are filled up with zeros at the end.
  if (blocks.logical > BlockSizes::kSmallest && size % blocks.logical != 0)
    return make_error(
        "disk image '{}': its size, {} bytes, is no multiple of logical_block_size={}; enlarge it with "
        "qemu-img resize, or leave the option out",
        disk.path, size, blocks.logical);
  return {};
}

BootFile boot_file(const LoadedFile& file) { return {file.path, file.bytes}; }

}  // namespace

Result<GuestFiles> read_guest_files(const BootFiles& boot, const std::vector<DriveFile>& drives) {
  GuestFiles files;
  if (!boot.firmware.empty()) {
    DEJA_ASSIGN(files.firmware, read_input_file("firmware", boot.firmware, kMaxRom));
  }
  if (!boot.kernel.empty()) {
    DEJA_ASSIGN(files.kernel, read_input_file("kernel", boot.kernel, kMaxGuestFile));
  }
  if (!boot.initrd.empty()) {
    DEJA_ASSIGN(files.initrd, read_input_file("initrd", boot.initrd, kMaxGuestFile));
  }
  for (const DriveFile& drive : drives) {
    DEJA_ASSIGN(DiskImage image, open_disk_image(drive.path, drive.format));
    files.drives.push_back(std::move(image));
  }
  if (files.firmware || !boot.kernel.empty()) return files;
  if (!files.drives.empty() && drives[0].format.empty() && is_linux_kernel(files.drives[0]))
    return make_error(
        "'{}' looks like a Linux kernel, which --kernel takes; if it is a disk image, say so: --drive "
        "file=...,format={}",
        files.drives[0].path, files.drives[0].format);
  const Status taken = take_kernel_from_disk(&files);
  if (taken) return files;
  if (files.drives.empty() || boot.fallback_firmware.empty()) return taken.error();
  files.no_kernel = taken.error().message;
  DEJA_ASSIGN(files.firmware, read_input_file("firmware", boot.fallback_firmware, kMaxRom));
  return files;
}

Result<ScreenSize> parse_screen_size(std::string_view text) {
  constexpr ScreenSize kMin = BochsDisplay::kSmallest, kMax = BochsDisplay::kLargest;
  const std::size_t x = std::min(text.find('x'), text.size());
  const auto width = parse_number<decltype(ScreenSize::width)>(text.substr(0, x));
  const auto height = parse_number<decltype(ScreenSize::height)>(text.substr(std::min(x + 1, text.size())));
  const ScreenSize size{width.value_or(0), height.value_or(0)};
  // Lines of whole 64-byte blocks, as drivers want them.
  if (size.width >= kMin.width && size.height >= kMin.height && size.width <= kMax.width &&
      size.height <= kMax.height && size.width % 16 == 0)
    return size;
  return make_error(
      "screen {}: WIDTHxHEIGHT from {}x{} to {}x{} with a width that 16 divides, such as 1024x768", text,
      kMin.width, kMin.height, kMax.width, kMax.height);
}

GuestSetup setup_of(const RecordingManifest& manifest) {
  return {manifest.machine, manifest.rtc_base_unix_seconds, manifest.rng_seed, manifest.machine_version};
}

void to_manifest(const GuestSetup& setup, RecordingManifest* manifest) {
  manifest->machine_version = setup.behaviour;
  manifest->machine = setup.spec;
  manifest->rtc_base_unix_seconds = setup.rtc_unix_seconds;
  manifest->rng_seed = setup.rng_seed;
}

Result<MachineConfig> machine_config(const GuestSetup& setup, const GuestFiles& files,
                                     BehaviourRange behaviours) {
  DEJA_TRY(check_behaviour(setup.behaviour, behaviours));
  const MachineSpec& spec = setup.spec;
  MachineConfig config;
  config.behaviour = setup.behaviour;
  config.ram_bytes = spec.ram_bytes;
  config.vcpus = spec.vcpus;
  config.cpu = spec.cpu_model;
  config.clock_rate_num = spec.clock_rate_num;
  config.clock_rate_den = spec.clock_rate_den;
  config.quantum = spec.quantum_steps;
  config.rtc_unix_seconds = setup.rtc_unix_seconds;
  for (const auto& [name, value] : spec.options) {
    if (name == kRebootOption && value == "off") {
      config.reboot = false;
    } else if (name == kScreenOption) {
      DEJA_ASSIGN(config.screen, parse_screen_size(value));
    } else if (name == kGuestControlOption && (value == "marks" || value == "off")) {
      config.guest_control = value == "off" ? GuestControlRights::none : GuestControlRights::marks;
    } else if (name == kChaosOption) {
      config.chaos_seed = parse_number<u64>(value);
      if (!config.chaos_seed) return make_error("machine option chaos={}: is not a number", value);
    } else {
      return make_error("machine option {}={} is not known to this version of deja", name, value);
    }
  }
  if (spec.drives.size() != files.drives.size())
    return make_error("{} drives are described, and {} images are there", spec.drives.size(),
                      files.drives.size());
  for (std::size_t i = 0; i < spec.drives.size(); ++i) {
    const DriveSpec& drive = spec.drives[i];
    const BlockSizes blocks{drive.logical_block_size, drive.physical_block_size};
    DEJA_TRY(check_block_sizes(blocks, files.drives[i]));
    config.drives.push_back({files.drives[i].content, drive.read_only, drive.serial, blocks});
  }
  if (!spec.nic_mac.empty()) {
    DEJA_ASSIGN(config.nic, parse_mac(spec.nic_mac));
  }
  config.console = spec.console;
  if (spec.boot_mode == "bzimage")
    config.boot.mode = BootMode::bzimage;
  else if (spec.boot_mode != "vmlinux")
    return make_error("boot mode '{}' is not known; there are vmlinux and bzimage", spec.boot_mode);
  if (files.firmware) config.boot.firmware = boot_file(*files.firmware);
  config.boot.kernel = boot_file(files.kernel);
  if (files.initrd) config.boot.initrd = boot_file(*files.initrd);
  config.boot.cmdline = spec.cmdline;
  config.boot.rng_seed.assign(setup.rng_seed.begin(), setup.rng_seed.end());
  return config;
}

}  // namespace deja
