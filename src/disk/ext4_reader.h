// Reads files out of an ext2, ext3 or ext4 file system (Linux Documentation/filesystems/ext4), as much as it
// takes to find a kernel: extents and block maps, linear directories, symbolic links. The image may be
// hostile.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "devices/storage/block_image.h"

namespace deja {

class Ext4Reader {
 public:
  // `start`: byte of `image` at which the file system begins. An error when there is none.
  static Result<Ext4Reader> open(BlockImage& image, u64 start);

  std::string uuid() const;  // as in root=UUID=…

  // An absolute path; symbolic links are followed. At most `limit` bytes.
  Result<std::vector<u8>> read_file(std::string_view path, u64 limit);
  // Names in a directory, in the order of the disk, without "." and "..".
  Result<std::vector<std::string>> list(std::string_view path);

 private:
  struct Inode {
    u16 mode = 0;
    u64 size = 0;
    u32 flags = 0;
    u8 block[60] = {};
  };
  struct Entry {
    u32 inode;
    std::string name;
  };

  Ext4Reader(BlockImage& image, u64 start) : image_(&image), start_(start) {}
  Status read_super();
  Status read_at(u64 offset, void* out, u64 size) const;
  Result<Inode> inode(u32 number) const;
  // Physical block of a file's block; 0 for a hole.
  Result<u64> map(const Inode& inode, u64 block) const;
  Result<u64> map_extents(const Inode& inode, u64 block) const;
  Result<u64> map_blocks(const Inode& inode, u64 block) const;
  Result<std::vector<u8>> content(const Inode& inode, u64 limit) const;
  Result<std::vector<Entry>> entries(const Inode& directory) const;
  Result<u32> find(std::string_view path, unsigned links);

  BlockImage* image_;
  u64 start_;
  u64 block_size_ = 0;
  u32 inodes_ = 0, inodes_per_group_ = 0, first_data_block_ = 0;
  u16 inode_size_ = 0, descriptor_size_ = 0;
  u8 uuid_[16] = {};
};

}  // namespace deja
