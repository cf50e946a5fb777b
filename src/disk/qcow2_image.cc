#include "disk/qcow2_image.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "disk/inflate.h"

namespace deja {
namespace {

constexpr u64 kOffsetMask = 0x00fffffffffffe00, kCompressed = u64{1} << 62, kZero = 1;
constexpr std::size_t kHeaderV2 = 72, kHeaderV3 = 104;
constexpr u64 kMaxL1Bytes = 32_MiB;
constexpr std::size_t kCachedTables = 64;

// Incompatible features (header byte 72 on). Bit 0, "dirty", concerns reference counts, which nobody reads.
constexpr u64 kDirty = 1, kCorrupt = 2, kExternalData = 4, kCompressionType = 8, kExtendedL2 = 16;

u32 be32(const u8* p) {
  u32 x;
  std::memcpy(&x, p, 4);
  return __builtin_bswap32(x);
}
u64 be64(const u8* p) {
  u64 x;
  std::memcpy(&x, p, 8);
  return __builtin_bswap64(x);
}

bool unpack_zstd(std::span<const u8> in, std::span<u8> out) {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ZSTD_inBuffer from{in.data(), in.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  bool ok = context != nullptr;
  while (ok && to.pos < to.size) {
    const std::size_t before = from.pos + to.pos;
    ok = !ZSTD_isError(ZSTD_decompressStream(context, &to, &from)) && from.pos + to.pos != before;
  }
  ZSTD_freeDCtx(context);
  return ok;
}

}  // namespace

bool Qcow2Image::is_one(std::span<const u8> start) {
  return start.size() >= 4 && std::memcmp(start.data(), "QFI\xfb", 4) == 0;
}

Result<std::shared_ptr<BlockImage>> Qcow2Image::open(HostFile file) {
  std::shared_ptr<Qcow2Image> image(new Qcow2Image(std::move(file)));
  DEJA_TRY(image->read_header());
  return std::shared_ptr<BlockImage>(std::move(image));
}

Status Qcow2Image::read_header() {
  std::array<u8, kHeaderV3 + 8> h{};
  if (file_.size() < kHeaderV2) return damaged("the header is cut off");
  DEJA_TRY(file_.read_or_zeros(0, h));
  const auto unsupported = [this](std::string_view what) {
    return make_error(
        "disk image '{}': {} is not supported; `qemu-img convert -O qcow2` makes an image without",
        file_.path(), what);
  };
  const u32 version = be32(&h[4]);
  if (version != 2 && version != 3) return damaged("version {}", version);
  version3_ = version == 3;
  if (be64(&h[8]) != 0) return unsupported("a backing file");
  cluster_bits_ = be32(&h[20]);
  if (cluster_bits_ < 9 || cluster_bits_ > 21) return damaged("clusters of 2^{} bytes", cluster_bits_);
  size_ = be64(&h[24]);
  if (be32(&h[32]) != 0) return unsupported("encryption");
  if (version3_) {
    const u64 features = be64(&h[72]);
    if (features & kCorrupt) return damaged("it is marked as corrupt");
    if (features & kExternalData) return unsupported("an external data file");
    if (features & kExtendedL2) return unsupported("subclusters (extended L2 entries)");
    if (features & ~(kDirty | kCompressionType)) return unsupported("a feature newer than this program");
    if (features & kCompressionType) {
      if (be32(&h[100]) <= kHeaderV3 || h[104] > 1) return unsupported("its compression");
      compression_ = static_cast<Compression>(h[104]);
    }
  }
  const u64 entries = be32(&h[36]), table = be64(&h[40]);
  const u64 per_l1 = cluster_size() * (cluster_size() / 8);  // bytes of disk
  if (size_ > u64{1} << 50 || entries * 8 > kMaxL1Bytes) return damaged("a disk of {} bytes", size_);
  if (entries < (size_ + per_l1 - 1) / per_l1) return damaged("its first table has {} entries only", entries);
  if (table % 8 || table > file_.size() || entries * 8 > file_.size() - table)
    return damaged("its first table is not in the file");
  std::vector<u8> bytes(entries * 8);
  DEJA_TRY(file_.read_or_zeros(table, bytes));
  for (u64 i = 0; i < entries; ++i) l1_.push_back(be64(&bytes[i * 8]));
  return {};
}

Result<u64> Qcow2Image::entry_of(u64 offset) {
  const u64 cluster = offset >> cluster_bits_;
  const u64 per_table = cluster_size() / 8;
  const u64 table = l1_[cluster / per_table] & kOffsetMask;
  if (table == 0) return u64{0};
  const auto cached =
      std::find_if(tables_.begin(), tables_.end(), [&](const Table& t) { return t.offset == table; });
  if (cached != tables_.end()) return cached->entries[cluster % per_table];
  if (table % cluster_size() || table >= file_.size()) return damaged("a table at {:#x}", table);
  std::vector<u8> bytes(cluster_size());
  DEJA_TRY(file_.read_or_zeros(table, bytes));
  Table t{table, std::vector<u64>(per_table)};
  for (u64 i = 0; i < per_table; ++i) t.entries[i] = be64(&bytes[i * 8]);
  const u64 entry = t.entries[cluster % per_table];
  tables_.push_front(std::move(t));
  if (tables_.size() > kCachedTables) tables_.pop_back();
  return entry;
}

Status Qcow2Image::read_compressed(u64 entry, u64 in_cluster, std::span<u8> out) {
  if (entry != unpacked_entry_ || unpacked_.empty()) {
    const unsigned offset_bits = 62 - (cluster_bits_ - 8);
    const u64 at = entry & ((u64{1} << offset_bits) - 1);
    const u64 sectors = (entry >> offset_bits & ((u64{1} << (cluster_bits_ - 8)) - 1)) + 1;
    if (at >= file_.size()) return damaged("a compressed cluster at {:#x}", at);
    std::vector<u8> packed(std::min(sectors * 512 - (at & 511), file_.size() - at));
    DEJA_TRY(file_.read_or_zeros(at, packed));
    unpacked_.assign(cluster_size(), 0);
    const bool ok = compression_ == Compression::zlib ? inflate_exactly(packed, unpacked_, -12)
                                                      : unpack_zstd(packed, unpacked_);
    if (!ok) {
      unpacked_.clear();
      return damaged("the compressed cluster at {:#x} does not unpack", at);
    }
    unpacked_entry_ = entry;
  }
  std::memcpy(out.data(), unpacked_.data() + in_cluster, out.size());
  return {};
}

Status Qcow2Image::read_cluster(u64 entry, u64 in_cluster, std::span<u8> out) {
  if (entry & kCompressed) return read_compressed(entry, in_cluster, out);
  const u64 at = entry & kOffsetMask;
  if (at == 0 || (version3_ && (entry & kZero))) {
    std::fill(out.begin(), out.end(), u8{0});
    return {};
  }
  if (at % cluster_size() || at >= file_.size()) return damaged("a cluster at {:#x}", at);
  // The file may end within its last cluster.
  return file_.read_or_zeros(at + in_cluster, out);
}

Status Qcow2Image::read(u64 offset, std::span<u8> out) {
  while (!out.empty()) {
    if (offset >= size_) {
      std::fill(out.begin(), out.end(), u8{0});
      return {};
    }
    const u64 in_cluster = offset & (cluster_size() - 1);
    const u64 n = std::min({cluster_size() - in_cluster, u64{out.size()}, size_ - offset});
    DEJA_ASSIGN(const u64 entry, entry_of(offset));
    DEJA_TRY(read_cluster(entry, in_cluster, out.first(n)));
    offset += n;
    out = out.subspan(n);
  }
  return {};
}

}  // namespace deja
