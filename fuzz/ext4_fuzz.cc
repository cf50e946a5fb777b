// Disks with a file system from which a kernel is to be taken, right but for a few things.
#include <algorithm>
#include <cstring>

#include "disk/boot_disk.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr u64 kBlock = 1024;
constexpr u32 kInodes = 32, kInodeSize = 128;
constexpr u64 kInodeTable = 5;  // block
constexpr u64 kFirstData = 10, kBlocks = 64;

class MemoryImage final : public BlockImage {
 public:
  explicit MemoryImage(std::string bytes) : bytes_(std::move(bytes)) {}
  u64 size() const override { return bytes_.size(); }
  Status read(u64 offset, std::span<u8> out) override {
    for (u64 i = 0; i < out.size(); ++i)
      out[i] = offset < bytes_.size() && i < bytes_.size() - offset ? static_cast<u8>(bytes_[offset + i]) : 0;
    return {};
  }

 private:
  std::string bytes_;
};

// One block group: root directory, /boot with a kernel, links to it, and an initrd.
class FileSystem {
 public:
  explicit FileSystem(Random& random) : random_(random), bytes(kBlocks * kBlock, '\0') {
    put<u32>(1024, kInodes);
    put<u32>(1024 + 4, kBlocks);
    put<u32>(1024 + 20, 1);
    put<u32>(1024 + 32, 8192);
    put<u32>(1024 + 40, kInodes);
    put<u16>(1024 + 56, 0xef53);
    put<u32>(1024 + 76, 1);
    put<u16>(1024 + 88, kInodeSize);
    put<u32>(1024 + 96, 0x40);
    put<u32>(2 * kBlock + 8, kInodeTable);
    // Inode 2, the root; 12, /boot; 13 and 14, kernel and initrd; 15 and 16, links to them.
    const std::vector<Name> root{{2, "."}, {2, ".."}, {12, "boot"}, {15, "vmlinuz"}, {16, "initrd.img"}};
    directory(2, root);
    directory(12, {{12, "."}, {2, ".."}, {13, "vmlinuz-6.1"}, {14, "initrd.img-6.1"}});
    file(13, 3 * kBlock + 100);
    file(14, kBlock);
    link(15, random.one_in(8) ? "vmlinuz" : "boot/vmlinuz-6.1");
    link(16, random.one_in(8) ? "/boot/../initrd.img" : "/boot/../boot/initrd.img-6.1");
    for (u64 n = random.below(4); n > 0; --n) distort();
    if (random.one_in(3)) damage(random, bytes);
  }

 private:
  struct Name {
    u32 inode;
    std::string name;
  };
  template <class T>
  void put(u64 at, T value) {
    if (at + sizeof value <= bytes.size()) std::memcpy(&bytes[at], &value, sizeof value);
  }
  static u64 inode_at(u32 number) { return kInodeTable * kBlock + u64{number - 1} * kInodeSize; }
  void inode(u32 number, u16 mode, u64 size) {
    put<u16>(inode_at(number), mode);
    put<u32>(inode_at(number) + 4, static_cast<u32>(size));
  }
  // Where a file's `blocks` blocks are: an extent, an extent tree of two levels, or block numbers.
  void map(u32 number, u32 blocks) {
    const u64 at = inode_at(number) + 40;
    const u32 first = static_cast<u32>(next_);
    next_ += blocks;
    const auto extents = [&](u64 node, u16 room, u16 depth, u32 target, u32 length) {
      put<u16>(node, 0xf30a), put<u16>(node + 2, 1), put<u16>(node + 4, room), put<u16>(node + 6, depth);
      put<u32>(node + 12, 0);
      if (depth)
        put<u32>(node + 16, target);
      else
        put<u16>(node + 16, static_cast<u16>(length)), put<u32>(node + 20, target);
    };
    switch (random_.below(3)) {
      case 0:
        for (u32 i = 0; i < std::min(blocks, 12u); ++i) put<u32>(at + 4 * i, first + i);
        return;
      case 1: {
        put<u32>(inode_at(number) + 32, 0x80000);
        const u64 leaf = next_++;
        extents(at, 4, 1, static_cast<u32>(leaf), 0);
        extents(leaf * kBlock, 84, 0, first, blocks);
        return;
      }
      default:
        put<u32>(inode_at(number) + 32, 0x80000);
        extents(at, 4, 0, first, blocks);
    }
  }
  void directory(u32 number, const std::vector<Name>& names) {
    inode(number, 0x41ed, kBlock);
    u64 at = next_ * kBlock;
    const u64 end = at + kBlock;
    map(number, 1);
    for (const Name& n : names) {
      const u64 length = &n == &names.back() ? end - at : (8 + n.name.size() + 3) & ~u64{3};
      put<u32>(at, n.inode), put<u16>(at + 4, static_cast<u16>(length));
      put<u8>(at + 6, static_cast<u8>(n.name.size()));
      bytes.replace(at + 8, n.name.size(), n.name);
      at += length;
    }
  }
  void file(u32 number, u64 size) {
    inode(number, 0x81a4, size);
    map(number, static_cast<u32>((size + kBlock - 1) / kBlock));
  }
  void link(u32 number, const std::string& target) {
    inode(number, 0xa1ff, target.size());
    bytes.replace(inode_at(number) + 40, target.size(), target);
  }
  // A field of the structures that matter becomes an edge.
  void distort() {
    const u64 at =
        random_.pick<u64>({1024 + 4 * random_.below(64), 2 * kBlock + 4 * random_.below(16),
                           inode_at(2) + 4 * random_.below(32), inode_at(12) + 4 * random_.below(32),
                           inode_at(13) + 4 * random_.below(32), inode_at(15) + 4 * random_.below(32),
                           kFirstData * kBlock + 4 * random_.below(1024)});
    if (random_.one_in(2))
      put<u32>(at, static_cast<u32>(random_.edgy()));
    else
      put<u16>(at + 2 * random_.below(2), static_cast<u16>(random_.edgy()));
  }

  Random& random_;
  u64 next_ = kFirstData;

 public:
  std::string bytes;
};

// In the second partition of an MBR, or of a GPT.
std::string partitioned(Random& random, const std::string& fs) {
  std::string disk(64 * 512, '\0');
  const u32 first = 64;
  disk[510] = '\x55', disk[511] = '\xaa';
  if (random.one_in(2)) {
    disk[446 + 16 + 4] = '\x83';
    std::memcpy(&disk[446 + 16 + 8], &first, 4);
  } else {
    disk[446 + 4] = '\xee';
    disk.replace(512, 8, "EFI PART");
    const u64 table = 2;
    const u32 count = 4, size = 128;
    std::memcpy(&disk[512 + 72], &table, 8);
    std::memcpy(&disk[512 + 80], &count, 4);
    std::memcpy(&disk[512 + 84], &size, 4);
    disk[1024 + 128] = 1;
    std::memcpy(&disk[1024 + 128 + 32], &first, 4);
  }
  if (random.one_in(2)) damage(random, disk);
  disk.resize(64 * 512);
  return disk + fs;
}

}  // namespace

void run_case(Random& random) {
  const std::string fs = FileSystem(random).bytes;
  MemoryImage image(random.one_in(3) ? partitioned(random, fs) : fs);
  auto found = find_boot_disk(image);
  if (found) DEJA_CHECK(!found->kernel_path.empty());
}

}  // namespace deja::fuzz
