#include "disk/boot_disk.h"

#include <algorithm>
#include <cstring>

#include "disk/ext4_reader.h"

namespace deja {
namespace {

// Partition tables count in logical blocks of the disk, and do not say how large those are.
constexpr u64 kSector = 512, kLargeSector = 4096;
constexpr unsigned kMaxGptEntries = 128;

struct Partition {
  unsigned number;
  u64 start;  // in bytes
};

template <class T>
T get(const u8* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

// GPT: UEFI Specification 2.10 section 5.3; the MBR in front of it has one partition of type EEh.
Result<std::vector<Partition>> read_gpt(BlockImage& disk, u64 sector) {
  u8 header[kSector];
  DEJA_TRY(disk.read(sector, header));
  std::vector<Partition> out;
  if (std::memcmp(header, "EFI PART", 8) != 0) return out;
  const u64 table = get<u64>(header + 72);
  const u32 count = std::min(get<u32>(header + 80), kMaxGptEntries), size = get<u32>(header + 84);
  if (size < 128 || size > 4096 || table > disk.size() / sector) return out;
  std::vector<u8> entry(size);
  for (u32 i = 0; i < count; ++i) {
    DEJA_TRY(disk.read(table * sector + u64{i} * size, entry));
    const bool used = std::any_of(entry.begin(), entry.begin() + 16, [](u8 b) { return b != 0; });
    const u64 first = get<u64>(entry.data() + 32);
    if (used && first < disk.size() / sector) out.push_back({i + 1, first * sector});
  }
  return out;
}

Result<std::vector<Partition>> read_partitions(BlockImage& disk, u64 sector) {
  u8 mbr[kSector];
  DEJA_TRY(disk.read(0, mbr));
  std::vector<Partition> out;
  if (get<u16>(mbr + 510) == 0xaa55) {
    for (unsigned i = 0; i < 4; ++i) {
      const u8* entry = mbr + 446 + 16 * i;
      if (entry[4] == 0xee) return read_gpt(disk, sector);
      if (entry[4] != 0) out.push_back({i + 1, u64{get<u32>(entry + 8)} * sector});
    }
  }
  if (out.empty()) out.push_back({0, 0});
  return out;
}

// The highest version of what is in /boot, by numbers: 6.1.0-10 comes after 6.1.0-9.
std::string newest_kernel(Ext4Reader& fs) {
  auto names = fs.list("/boot");
  if (!names) return {};
  std::string best;
  for (const std::string& name : *names)
    if (name.starts_with("vmlinuz-") && (best.empty() || ::strverscmp(name.c_str(), best.c_str()) > 0))
      best = name;
  return best;
}

Result<BootDisk> take_kernel(Ext4Reader& fs) {
  BootDisk out;
  std::vector<std::pair<std::string, std::string>> candidates = {{"/vmlinuz", "/initrd.img"},
                                                                 {"/boot/vmlinuz", "/boot/initrd.img"}};
  if (const std::string newest = newest_kernel(fs); !newest.empty()) {
    const std::string version = newest.substr(std::string_view("vmlinuz-").size());
    candidates.push_back({"/boot/" + newest, "/boot/initrd.img-" + version});
    candidates.push_back({"/boot/" + newest, "/boot/initramfs-" + version + ".img"});
  }
  // A kernel without its initrd is taken only when no other has one.
  for (const auto& [kernel, initrd] : candidates) {
    auto bytes = fs.read_file(kernel, kMaxBootFile);
    if (!bytes) continue;
    auto ramdisk = fs.read_file(initrd, kMaxBootFile);
    if (!ramdisk && !out.kernel_path.empty()) continue;
    out.kernel_path = kernel;
    out.kernel = std::move(*bytes);
    if (!ramdisk) continue;
    out.initrd_path = initrd;
    out.initrd = std::move(*ramdisk);
    break;
  }
  if (out.kernel_path.empty()) return make_error("its file system has neither /vmlinuz nor /boot/vmlinuz-*");
  return out;
}

Result<BootDisk> find_in_partitions(BlockImage& disk, u64 sector) {
  DEJA_ASSIGN(const std::vector<Partition> partitions, read_partitions(disk, sector));
  std::string why;
  for (const Partition& p : partitions) {
    auto fs = Ext4Reader::open(disk, p.start);
    auto found = fs ? take_kernel(*fs) : Result<BootDisk>(fs.error());
    if (found) {
      found->partition = p.number;
      return found;
    }
    why += fmt::format("{}{}: {}", why.empty() ? "" : "; ",
                       p.number ? fmt::format("partition {}", p.number) : "the disk", found.error().message);
  }
  return make_error("{}", why.empty() ? "its partition table is empty" : why);
}

}  // namespace

Result<BootDisk> find_boot_disk(BlockImage& disk) {
  Result<BootDisk> found = find_in_partitions(disk, kSector);
  if (found) return found;
  Result<BootDisk> in_large_sectors = find_in_partitions(disk, kLargeSector);
  return in_large_sectors ? std::move(in_large_sectors) : std::move(found);
}

}  // namespace deja
