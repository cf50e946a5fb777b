// Images in VMware's format VMDK that are one file (Virtual Disk Format 5.0): "monolithic sparse", two levels
// of tables and grains, and "stream optimized", the same with each grain compressed, as OVA files have it.
//
// Others are a text that names further files, which an image may not do here: a recording knows each image by
// the hash of one file, and the process that reads it opens none. Where the text leads to a plain copy of the
// disk, the error says how to use that.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "devices/storage/block_image.h"
#include "disk/host_file.h"

namespace deja {

class VmdkImage final : public BlockImage {
 public:
  // Does a file that starts like this claim to be one?
  static bool is_one(std::span<const u8> start);
  static Result<std::shared_ptr<BlockImage>> open(HostFile file);

  u64 size() const override { return size_; }
  Status read(u64 offset, std::span<u8> out) override;

 private:
  explicit VmdkImage(HostFile file) : file_(std::move(file)) {}
  Status read_header();
  // Reads the text that describes the image, in a file of its own or in this one.
  Status check_descriptor(u64 offset, u64 size, bool of_its_own) const;
  // A grain's place in the file; 0: it has none, and is zeros.
  Result<u64> place_of(u64 grain) const;
  Result<u32> entry(u64 table, u64 index) const;
  Status read_grain(u64 grain, u64 within, std::span<u8> out);
  Status unpack(u64 grain, u64 at);
  Error unsupported(std::string_view what) const;
  template <class... Args>
  Error damaged(fmt::format_string<Args...> f, Args&&... args) const {
    return make_error("disk image '{}': the VMDK image is damaged: {}; `qemu-img check` tells more",
                      file_.path(), fmt::format(f, std::forward<Args>(args)...));
  }

  HostFile file_;
  u64 size_ = 0, grain_size_ = 0;
  u64 directory_ = 0, per_table_ = 0;
  bool compressed_ = false, has_zero_grains_ = false;

  // The last unpacked grain, kept because the rest of it will be asked for. Never visible.
  u64 unpacked_grain_ = 0;
  std::vector<u8> unpacked_;
};

}  // namespace deja
