// Images in QEMU's format qcow2, versions 2 and 3 (QEMU docs/interop/qcow2.txt), as far as reading one needs:
// two levels of tables, zero clusters, clusters compressed with zlib or zstd. Backing files, encryption,
// external data files and extended L2 entries are refused.
//
// An own reader and not qemu-nbd: it is small, needs nothing but pread(2) on a file that is already open, so
// that it runs in a process that may do no more (image_process.h), and an image reads the same on every host.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "devices/storage/block_image.h"
#include "disk/host_file.h"

namespace deja {

class Qcow2Image final : public BlockImage {
 public:
  // Does a file that starts like this claim to be one?
  static bool is_one(std::span<const u8> start);
  static Result<std::shared_ptr<BlockImage>> open(HostFile file);

  u64 size() const override { return size_; }
  Status read(u64 offset, std::span<u8> out) override;

 private:
  enum class Compression : u8 { zlib = 0, zstd = 1 };

  explicit Qcow2Image(HostFile file) : file_(std::move(file)) {}
  Status read_header();
  u64 cluster_size() const { return u64{1} << cluster_bits_; }
  // The L2 entry of the cluster that holds `offset`.
  Result<u64> entry_of(u64 offset);
  Status read_cluster(u64 entry, u64 in_cluster, std::span<u8> out);
  Status read_compressed(u64 entry, u64 in_cluster, std::span<u8> out);
  template <class... Args>
  Error damaged(fmt::format_string<Args...> f, Args&&... args) const {
    return make_error("disk image '{}': the qcow2 image is damaged: {}; `qemu-img check` tells more",
                      file_.path(), fmt::format(f, std::forward<Args>(args)...));
  }

  HostFile file_;
  u32 cluster_bits_ = 0;
  u64 size_ = 0;
  bool version3_ = false;
  Compression compression_ = Compression::zlib;
  std::vector<u64> l1_;

  // Tables and the last unpacked cluster, kept because they will be asked for again. Never visible.
  struct Table {
    u64 offset = 0;
    std::vector<u64> entries;
  };
  std::deque<Table> tables_;
  u64 unpacked_entry_ = 0;
  std::vector<u8> unpacked_;
};

}  // namespace deja
