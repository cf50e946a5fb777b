// Images in VirtualBox's format VDI, version 1.1, of fixed or of growing size: a header, one table with a
// number for each block of the disk, and blocks. Snapshots, which are differences to another image, are
// refused.
#pragma once

#include <memory>
#include <span>

#include "devices/storage/block_image.h"
#include "disk/host_file.h"

namespace deja {

class VdiImage final : public BlockImage {
 public:
  // Does a file that starts like this claim to be one?
  static bool is_one(std::span<const u8> start);
  static Result<std::shared_ptr<BlockImage>> open(HostFile file);

  u64 size() const override { return size_; }
  Status read(u64 offset, std::span<u8> out) override;

 private:
  explicit VdiImage(HostFile file) : file_(std::move(file)) {}
  Status read_header();
  Status read_block(u64 block, u64 within, std::span<u8> out) const;
  template <class... Args>
  Error damaged(fmt::format_string<Args...> f, Args&&... args) const {
    return make_error("disk image '{}': the VDI image is damaged: {}", file_.path(),
                      fmt::format(f, std::forward<Args>(args)...));
  }

  HostFile file_;
  u64 size_ = 0, block_size_ = 0;
  u64 table_ = 0, data_ = 0;  // where they are in the file
};

}  // namespace deja
