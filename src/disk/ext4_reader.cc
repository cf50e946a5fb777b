#include "disk/ext4_reader.h"

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

constexpr u64 kSuperblock = 1024;
constexpr u32 kRootInode = 2;
constexpr u32 kExtents = 0x80000, kInlineData = 0x10000000;
constexpr u16 kTypeMask = 0xf000, kDirectory = 0x4000, kRegular = 0x8000, kLink = 0xa000;
constexpr u16 kExtentMagic = 0xf30a;
constexpr u64 kMaxDirectory = 16_MiB;
constexpr unsigned kMaxLinks = 16, kMaxDepth = 5;
// Features without which the layout is another: compression, a journal device, encrypted names are not read.
constexpr u32 kIncompat64Bit = 0x80, kIncompatMetaBg = 0x10, kIncompatJournalDevice = 8;

template <class T>
T get(const u8* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

Error damaged() { return make_error("the file system is damaged"); }

}  // namespace

Result<Ext4Reader> Ext4Reader::open(BlockImage& image, u64 start) {
  Ext4Reader reader(image, start);
  DEJA_TRY(reader.read_super());
  return reader;
}

Status Ext4Reader::read_at(u64 offset, void* out, u64 size) const {
  if (offset > image_->size() || start_ > image_->size() - offset) return damaged();
  return image_->read(start_ + offset, {static_cast<u8*>(out), size});
}

Status Ext4Reader::read_super() {
  u8 s[1024];
  DEJA_TRY(read_at(kSuperblock, s, sizeof s));
  if (get<u16>(s + 56) != 0xef53) return make_error("there is no ext4 file system");
  const u32 log_block = get<u32>(s + 24), incompatible = get<u32>(s + 96);
  if (log_block > 6 || (incompatible & (kIncompatMetaBg | kIncompatJournalDevice)))
    return make_error("the ext4 file system has a layout that is not supported");
  block_size_ = u64{1024} << log_block;
  inodes_ = get<u32>(s + 0);
  first_data_block_ = get<u32>(s + 20);
  inodes_per_group_ = get<u32>(s + 40);
  inode_size_ = get<u32>(s + 76) ? get<u16>(s + 88) : 128;
  descriptor_size_ = incompatible & kIncompat64Bit ? get<u16>(s + 254) : 32;
  std::memcpy(uuid_, s + 104, sizeof uuid_);
  if (inodes_per_group_ == 0 || inode_size_ < 128 || descriptor_size_ < 32) return damaged();
  return {};
}

std::string Ext4Reader::uuid() const {
  std::string text;
  for (unsigned i = 0; i < sizeof uuid_; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid_[i]);
  }
  return text;
}

Result<Ext4Reader::Inode> Ext4Reader::inode(u32 number) const {
  if (number == 0 || number > inodes_) return damaged();
  const u64 group = (number - 1) / inodes_per_group_, index = (number - 1) % inodes_per_group_;
  u8 descriptor[64] = {};
  const u64 table = (first_data_block_ + u64{1}) * block_size_;
  DEJA_TRY(read_at(table + group * descriptor_size_, descriptor, std::min<u64>(descriptor_size_, 64)));
  const u64 block =
      get<u32>(descriptor + 8) | (descriptor_size_ >= 64 ? u64{get<u32>(descriptor + 40)} << 32 : 0);
  u8 raw[128];
  if (block >= u64{1} << 48) return damaged();
  DEJA_TRY(read_at(block * block_size_ + index * inode_size_, raw, sizeof raw));
  Inode i;
  i.mode = get<u16>(raw);
  i.size = get<u32>(raw + 4) | u64{get<u32>(raw + 108)} << 32;
  i.flags = get<u32>(raw + 32);
  std::memcpy(i.block, raw + 40, sizeof i.block);
  return i;
}

Result<u64> Ext4Reader::map_extents(const Inode& inode, u64 block) const {
  std::vector<u8> node(inode.block, inode.block + sizeof inode.block);
  for (unsigned depth = 0; depth <= kMaxDepth; ++depth) {
    const u16 count = get<u16>(node.data() + 2);
    if (get<u16>(node.data()) != kExtentMagic || 12 + u64{count} * 12 > node.size()) return damaged();
    const bool leaf = get<u16>(node.data() + 6) == 0;
    const u8* best = nullptr;
    for (u16 i = 0; i < count; ++i) {
      const u8* e = node.data() + 12 + 12 * i;
      if (get<u32>(e) <= block) best = e;
    }
    if (!best) return u64{0};
    if (leaf) {
      u32 length = get<u16>(best + 4);
      if (length > 32768) return u64{0};  // not initialised: reads as zeros
      const u64 first = get<u32>(best), at = get<u32>(best + 8) | u64{get<u16>(best + 6)} << 32;
      return block - first < length ? at + (block - first) : u64{0};
    }
    const u64 at = get<u32>(best + 4) | u64{get<u16>(best + 8)} << 32;
    node.resize(block_size_);
    DEJA_TRY(read_at(at * block_size_, node.data(), block_size_));
  }
  return damaged();
}

// The block map of ext2: 12 direct blocks, then one, two and three levels of indirection.
Result<u64> Ext4Reader::map_blocks(const Inode& inode, u64 block) const {
  const u64 per = block_size_ / 4;
  if (block < 12) return u64{get<u32>(inode.block + 4 * block)};
  block -= 12;
  u64 span = per;
  for (unsigned level = 0; level < 3; ++level, span *= per) {
    if (block >= span) {
      block -= span;
      continue;
    }
    u64 at = get<u32>(inode.block + 4 * (12 + level));
    for (u64 s = span / per; at; s /= per) {
      u32 next = 0;
      DEJA_TRY(read_at(at * block_size_ + 4 * (block / s), &next, 4));
      at = next;
      block %= s;
      if (s == 1) break;
    }
    return at;
  }
  return damaged();
}

Result<u64> Ext4Reader::map(const Inode& inode, u64 block) const {
  return inode.flags & kExtents ? map_extents(inode, block) : map_blocks(inode, block);
}

Result<std::vector<u8>> Ext4Reader::content(const Inode& inode, u64 limit) const {
  if (inode.size > limit) return make_error("it is larger than {} bytes", limit);
  if (inode.size > image_->size()) return damaged();
  if (inode.flags & kInlineData) return make_error("it is stored inside its inode, which is not supported");
  std::vector<u8> out(inode.size);
  for (u64 at = 0; at < out.size(); at += block_size_) {
    DEJA_ASSIGN(const u64 block, map(inode, at / block_size_));
    if (block)
      DEJA_TRY(read_at(block * block_size_, out.data() + at, std::min(block_size_, out.size() - at)));
  }
  return out;
}

Result<std::vector<Ext4Reader::Entry>> Ext4Reader::entries(const Inode& directory) const {
  if ((directory.mode & kTypeMask) != kDirectory) return make_error("it is not a directory");
  DEJA_ASSIGN(const std::vector<u8> bytes, content(directory, kMaxDirectory));
  std::vector<Entry> out;
  for (u64 at = 0; at + 8 <= bytes.size();) {
    const u32 number = get<u32>(&bytes[at]);
    const u16 length = get<u16>(&bytes[at + 4]);
    const u8 name = bytes[at + 6];
    if (length < 8 || length % 4 || at + length > bytes.size() || 8u + name > length) return damaged();
    if (number) out.push_back({number, std::string(reinterpret_cast<const char*>(&bytes[at + 8]), name)});
    at += length;
  }
  return out;
}

Result<u32> Ext4Reader::find(std::string_view path, unsigned links) {
  u32 number = kRootInode;
  std::string done = "/";
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (name.empty()) continue;
    DEJA_ASSIGN(const Inode directory, inode(number));
    DEJA_ASSIGN(const std::vector<Entry> all, entries(directory));
    const auto entry = std::find_if(all.begin(), all.end(), [&](const Entry& e) { return e.name == name; });
    if (entry == all.end()) return make_error("there is no such file");
    DEJA_ASSIGN(const Inode found, inode(entry->inode));
    if ((found.mode & kTypeMask) == kLink) {
      if (links == kMaxLinks) return make_error("too many symbolic links");
      std::string target;
      if (found.size < sizeof found.block) {
        target.assign(reinterpret_cast<const char*>(found.block), found.size);
      } else {
        DEJA_ASSIGN(const std::vector<u8> bytes, content(found, 4096));
        target.assign(bytes.begin(), bytes.end());
      }
      const std::string rest = fmt::format("{}/{}", target, path);
      return find(target.starts_with('/') ? rest : done + rest, links + 1);
    }
    number = entry->inode;
    done += fmt::format("{}/", name);
  }
  return number;
}

Result<std::vector<u8>> Ext4Reader::read_file(std::string_view path, u64 limit) {
  DEJA_ASSIGN(const u32 number, find(path, 0));
  DEJA_ASSIGN(const Inode file, inode(number));
  if ((file.mode & kTypeMask) != kRegular) return make_error("it is not a file");
  return content(file, limit);
}

Result<std::vector<std::string>> Ext4Reader::list(std::string_view path) {
  DEJA_ASSIGN(const u32 number, find(path, 0));
  DEJA_ASSIGN(const Inode directory, inode(number));
  DEJA_ASSIGN(const std::vector<Entry> all, entries(directory));
  std::vector<std::string> names;
  for (const Entry& e : all)
    if (e.name != "." && e.name != "..") names.push_back(e.name);
  return names;
}

}  // namespace deja
