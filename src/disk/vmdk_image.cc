#include "disk/vmdk_image.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

#include "disk/inflate.h"

namespace deja {
namespace {

constexpr u64 kSector = 512;
constexpr std::string_view kMagic = "KDMV", kEsxMagic = "COWD", kTextStart = "# Disk DescriptorFile";

// The header, little-endian: offsets in its sector. Places and sizes are in sectors.
constexpr std::size_t kVersionAt = 4, kFlagsAt = 8, kCapacityAt = 12, kGrainSizeAt = 20, kDescriptorAt = 28,
                      kDescriptorSizeAt = 36, kPerTableAt = 44, kDirectoryAt = 56, kNewLinesAt = 73,
                      kCompressionAt = 77;
constexpr u32 kMaxVersion = 3;
constexpr u32 kNewLines = 1, kSecondDirectory = 2, kZeroGrains = 4, kCompressed = 1 << 16, kMarkers = 1 << 17;
constexpr std::string_view kNewLineTest = "\n \r\n";
constexpr u64 kDirectoryAtEnd = ~u64{0};  // in a second header, which ends one sector before the file does
constexpr u16 kDeflate = 1;

constexpr u32 kZeroGrain = 1;            // entry of a table, with kZeroGrains
constexpr std::size_t kMarkerSize = 12;  // before a compressed grain: its first sector, and its size in bytes

constexpr u64 kMaxDescriptor = 64_KiB, kMaxCapacity = u64{1} << 41, kMaxGrain = 16_MiB / kSector,
              kMaxPerTable = 512;
constexpr std::string_view kNoParent = "ffffffff";

template <class T>
T get(const u8* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

bool starts_with(std::span<const u8> bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

// Text of an image, to be shown.
std::string harmless(std::string_view text) {
  std::string out(text.substr(0, 200));
  for (char& c : out)
    if (c < ' ' || c > '~') c = '?';
  return out;
}

struct Descriptor {
  std::string type, parent;
  std::vector<std::string> extents;  // lines such as: RW 20480 FLAT "disk-flat.vmdk" 0
};

Descriptor parse_descriptor(std::string_view text) {
  Descriptor out;
  text = text.substr(0, text.find('\0'));
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    while (line.starts_with(' ')) line.remove_prefix(1);
    const auto value_of = [&](std::string_view key) {
      if (!line.starts_with(key)) return std::string_view();
      std::string_view value = line.substr(key.size());
      while (value.starts_with(' ') || value.starts_with('=') || value.starts_with('"'))
        value.remove_prefix(1);
      return value.substr(0, value.find('"'));
    };
    if (const auto type = value_of("createType"); !type.empty()) out.type = type;
    if (const auto parent = value_of("parentCID"); !parent.empty()) out.parent = parent;
    if (line.starts_with("RW ") || line.starts_with("RDONLY ") || line.starts_with("NOACCESS "))
      out.extents.emplace_back(line);
  }
  return out;
}

// The file of an extent that is a plain copy of the whole disk; empty if it is something else.
std::string plain_copy(const Descriptor& descriptor) {
  if (descriptor.extents.size() != 1) return {};
  const std::string& line = descriptor.extents[0];
  const auto start = line.find(" FLAT \"");
  if (start == std::string::npos) return {};
  const auto name = start + std::string_view(" FLAT \"").size(), end = line.find('"', name);
  if (end == std::string::npos) return {};
  const std::string offset = line.substr(end + 1);
  return offset.empty() || offset == " 0" ? line.substr(name, end - name) : std::string();
}

}  // namespace

bool VmdkImage::is_one(std::span<const u8> start) {
  return starts_with(start, kMagic) || starts_with(start, kEsxMagic) || starts_with(start, kTextStart);
}

Result<std::shared_ptr<BlockImage>> VmdkImage::open(HostFile file) {
  std::shared_ptr<VmdkImage> image(new VmdkImage(std::move(file)));
  DEJA_TRY(image->read_header());
  return std::shared_ptr<BlockImage>(std::move(image));
}

Error VmdkImage::unsupported(std::string_view what) const {
  return make_error(
      "disk image '{}': {} is not supported; `qemu-img convert -O qcow2` makes an image without",
      file_.path(), what);
}

Status VmdkImage::check_descriptor(u64 offset, u64 size, bool of_its_own) const {
  std::string text(std::min(size, kMaxDescriptor), '\0');
  DEJA_TRY(file_.read_or_zeros(offset, {reinterpret_cast<u8*>(text.data()), text.size()}));
  const Descriptor descriptor = parse_descriptor(text);
  if (!descriptor.parent.empty() && descriptor.parent != kNoParent)
    return unsupported("a snapshot (a difference to another image)");
  if (of_its_own) {
    if (const std::string name = plain_copy(descriptor); !name.empty())
      return make_error(
          "disk image '{}': only describes the disk, which is in the file '{}': use that one, with "
          "format=raw",
          file_.path(), harmless(name));
    return unsupported(fmt::format("a disk in other files (createType '{}')", harmless(descriptor.type)));
  }
  if (descriptor.type.empty()) return unsupported("one of the several files of a split disk");
  if (descriptor.type != "monolithicSparse" && descriptor.type != "streamOptimized")
    return unsupported(fmt::format("createType '{}'", harmless(descriptor.type)));
  return {};
}

Status VmdkImage::read_header() {
  std::array<u8, kSector> h{};
  DEJA_TRY(file_.read_or_zeros(0, h));
  if (starts_with(h, kEsxMagic)) return unsupported("a sparse image of ESX");
  if (starts_with(h, kTextStart)) return check_descriptor(0, file_.size(), true);
  const u64 descriptor = get<u64>(&h[kDescriptorAt]), descriptor_size = get<u64>(&h[kDescriptorSizeAt]);
  if (descriptor > file_.size() / kSector || descriptor_size > file_.size() / kSector)
    return damaged("its descriptor is not in the file");
  DEJA_TRY(check_descriptor(descriptor * kSector, descriptor_size * kSector, false));

  if (get<u64>(&h[kDirectoryAt]) == kDirectoryAtEnd) {
    if (file_.size() < 3 * kSector) return damaged("its footer is cut off");
    DEJA_TRY(file_.read(file_.size() - 2 * kSector, h));
    if (!starts_with(h, kMagic)) return damaged("its footer is missing");
  }
  const u32 version = get<u32>(&h[kVersionAt]), flags = get<u32>(&h[kFlagsAt]);
  if (version == 0 || version > kMaxVersion ||
      (flags & ~(kNewLines | kSecondDirectory | kZeroGrains | kCompressed | kMarkers)))
    return unsupported("a feature newer than this program");
  if ((flags & kNewLines) && std::memcmp(&h[kNewLinesAt], kNewLineTest.data(), kNewLineTest.size()) != 0)
    return damaged("its line ends were changed by a transfer as text");
  has_zero_grains_ = flags & kZeroGrains;
  compressed_ = flags & kCompressed;
  if (compressed_ && (!(flags & kMarkers) || get<u16>(&h[kCompressionAt]) != kDeflate))
    return unsupported("its compression");

  const u64 capacity = get<u64>(&h[kCapacityAt]), grain = get<u64>(&h[kGrainSizeAt]);
  if (capacity > kMaxCapacity) return damaged("a disk of {} sectors", capacity);
  if (!std::has_single_bit(grain) || grain > kMaxGrain) return damaged("grains of {} sectors", grain);
  size_ = capacity * kSector, grain_size_ = grain * kSector;
  per_table_ = get<u32>(&h[kPerTableAt]);
  if (per_table_ == 0 || per_table_ > kMaxPerTable) return damaged("tables of {} entries", per_table_);
  const u64 directory = get<u64>(&h[kDirectoryAt]);
  const u64 tables = (capacity + grain * per_table_ - 1) / (grain * per_table_);
  if (directory > file_.size() / kSector || tables * 4 > file_.size() - directory * kSector)
    return damaged("its directory is not in the file");
  directory_ = directory * kSector;
  return {};
}

// Tables are looked up in the file each time: who reads asks for much more than four bytes at once.
Result<u32> VmdkImage::entry(u64 table, u64 index) const {
  u8 bytes[4];
  const u64 at = table + 4 * index;
  if (at + sizeof bytes > file_.size()) return damaged("a table at {:#x}", table);
  DEJA_TRY(file_.read(at, bytes));
  return get<u32>(bytes);
}

Result<u64> VmdkImage::place_of(u64 grain) const {
  DEJA_ASSIGN(const u32 table, entry(directory_, grain / per_table_));
  if (table == 0) return u64{0};
  DEJA_ASSIGN(const u32 place, entry(table * kSector, grain % per_table_));
  if (place == kZeroGrain && has_zero_grains_) return u64{0};
  if (place * kSector >= file_.size()) return damaged("grain {} at {:#x}", grain, place * kSector);
  return place * kSector;
}

Status VmdkImage::unpack(u64 grain, u64 at) {
  std::array<u8, kMarkerSize> marker{};
  DEJA_TRY(file_.read_or_zeros(at, marker));
  const u64 sector = get<u64>(&marker[0]), size = get<u32>(&marker[8]);
  if (sector != grain * (grain_size_ / kSector))
    return damaged("the grain at {:#x} is sector {}", at, sector);
  if (size > 2 * grain_size_ + kSector || at + kMarkerSize + size > file_.size())
    return damaged("the grain at {:#x} has {} bytes", at, size);
  std::vector<u8> packed(size);
  DEJA_TRY(file_.read(at + kMarkerSize, packed));
  // The last one may end with the disk.
  unpacked_.resize(std::min(grain_size_, size_ - grain * grain_size_));
  if (!inflate_exactly(packed, unpacked_, 15)) {
    unpacked_.clear();
    return damaged("the grain at {:#x} does not unpack", at);
  }
  unpacked_grain_ = grain;
  return {};
}

Status VmdkImage::read_grain(u64 grain, u64 within, std::span<u8> out) {
  if (unpacked_.empty() || grain != unpacked_grain_) {
    DEJA_ASSIGN(const u64 at, place_of(grain));
    if (at == 0) {
      std::fill(out.begin(), out.end(), u8{0});
      return {};
    }
    if (!compressed_) return file_.read_or_zeros(at + within, out);  // the file may end within its last grain
    DEJA_TRY(unpack(grain, at));
  }
  std::memcpy(out.data(), unpacked_.data() + within, out.size());
  return {};
}

Status VmdkImage::read(u64 offset, std::span<u8> out) {
  while (!out.empty()) {
    if (offset >= size_) {
      std::fill(out.begin(), out.end(), u8{0});
      return {};
    }
    const u64 within = offset % grain_size_;
    const u64 n = std::min({grain_size_ - within, u64{out.size()}, size_ - offset});
    DEJA_TRY(read_grain(offset / grain_size_, within, out.first(n)));
    offset += n;
    out = out.subspan(n);
  }
  return {};
}

}  // namespace deja
