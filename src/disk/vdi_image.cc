#include "disk/vdi_image.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace deja {
namespace {

// The header (VirtualBox, src/VBox/Storage/VDICore.h), little-endian: offsets in the file.
constexpr std::string_view kText = "<<<";  // then who made it
constexpr std::size_t kSignatureAt = 0x40, kVersionAt = 0x44, kTypeAt = 0x4c, kTableAt = 0x154,
                      kDataAt = 0x158, kSizeAt = 0x170, kBlockSizeAt = 0x178, kBlockExtraAt = 0x17c,
                      kBlocksAt = 0x180, kLinkAt = 0x1a8, kParentAt = 0x1b8, kHeaderSize = 0x1c8;
constexpr u32 kSignature = 0xbeda107f, kVersion = 0x00010001;
constexpr u32 kDynamic = 1, kStatic = 2;
constexpr std::size_t kUuidSize = 16;

constexpr u64 kMinBlock = 512, kMaxBlock = 64_MiB;
constexpr u32 kFirstAbsent =
    0xfffffffe;  // that one was discarded, the next never written: both read as zeros

template <class T>
T get(const u8* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

}  // namespace

bool VdiImage::is_one(std::span<const u8> start) {
  return start.size() >= kSignatureAt + 4 && std::memcmp(start.data(), kText.data(), kText.size()) == 0 &&
         get<u32>(&start[kSignatureAt]) == kSignature;
}

Result<std::shared_ptr<BlockImage>> VdiImage::open(HostFile file) {
  std::shared_ptr<VdiImage> image(new VdiImage(std::move(file)));
  DEJA_TRY(image->read_header());
  return std::shared_ptr<BlockImage>(std::move(image));
}

Status VdiImage::read_header() {
  std::array<u8, kHeaderSize> h{};
  if (file_.size() < h.size()) return damaged("the header is cut off");
  DEJA_TRY(file_.read(0, h));
  const auto unsupported = [this](std::string_view what) {
    return make_error(
        "disk image '{}': {} is not supported; `VBoxManage clonemedium` or `qemu-img convert -O qcow2` makes "
        "an "
        "image without",
        file_.path(), what);
  };
  if (const u32 version = get<u32>(&h[kVersionAt]); version != kVersion)
    return unsupported(fmt::format("version {}.{} of VDI", version >> 16, version & 0xffff));
  const u32 type = get<u32>(&h[kTypeAt]);
  const auto is_set = [&](std::size_t uuid) {
    return std::any_of(&h[uuid], &h[uuid] + kUuidSize, [](u8 b) { return b != 0; });
  };
  if ((type != kDynamic && type != kStatic) || is_set(kLinkAt) || is_set(kParentAt))
    return unsupported("a snapshot (a difference to another image)");
  if (get<u32>(&h[kBlockExtraAt]) != 0) return unsupported("extra data in front of blocks");
  size_ = get<u64>(&h[kSizeAt]);
  block_size_ = get<u32>(&h[kBlockSizeAt]);
  if (!std::has_single_bit(block_size_) || block_size_ < kMinBlock || block_size_ > kMaxBlock)
    return damaged("blocks of {} bytes", block_size_);
  table_ = get<u32>(&h[kTableAt]), data_ = get<u32>(&h[kDataAt]);
  const u64 blocks = get<u32>(&h[kBlocksAt]);
  if (size_ > blocks * block_size_) return damaged("a disk of {} bytes in {} blocks", size_, blocks);
  if (table_ < kHeaderSize || table_ > file_.size() || blocks * 4 > file_.size() - table_)
    return damaged("its table is not in the file");
  return {};
}

// The table is looked up in the file each time: who reads asks for much more than four bytes at once.
Status VdiImage::read_block(u64 block, u64 within, std::span<u8> out) const {
  u8 entry[4];
  DEJA_TRY(file_.read(table_ + 4 * block, entry));
  const u32 number = get<u32>(entry);
  if (number >= kFirstAbsent) {
    std::fill(out.begin(), out.end(), u8{0});
    return {};
  }
  const u64 at = data_ + number * block_size_;
  if (at >= file_.size()) return damaged("block {} at {:#x}", block, at);
  return file_.read_or_zeros(at + within, out);  // the file may end within its last block
}

Status VdiImage::read(u64 offset, std::span<u8> out) {
  while (!out.empty()) {
    if (offset >= size_) {
      std::fill(out.begin(), out.end(), u8{0});
      return {};
    }
    const u64 within = offset % block_size_;
    const u64 n = std::min({block_size_ - within, u64{out.size()}, size_ - offset});
    DEJA_TRY(read_block(offset / block_size_, within, out.first(n)));
    offset += n;
    out = out.subspan(n);
  }
  return {};
}

}  // namespace deja
