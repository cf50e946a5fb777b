// Disk images read by another process, which is confined to reading the descriptors that it is given: a
// hostile image that takes it over holds what the image's readers hold, and nothing else. The process has no
// files of its own, no network, and no other way back than answers, which are checked here.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "devices/storage/block_image.h"
#include "disk/boot_disk.h"
#include "disk/host_file.h"

namespace deja {

// Starts the process, of which there is one, unless it runs. Code that opens images later calls this before
// the sandbox is entered; opening an image does it too.
Status start_image_process();

class RemoteImage final : public BlockImage {
 public:
  static Result<std::shared_ptr<RemoteImage>> open(const HostFile& file, const std::string& format);
  ~RemoteImage() override;
  RemoteImage(const RemoteImage&) = delete;

  u64 size() const override { return size_; }
  Status read(u64 offset, std::span<u8> out) override;
  Result<BootDisk> find_boot();

 private:
  RemoteImage(std::string path, u32 number, u64 size)
      : path_(std::move(path)), number_(number), size_(size) {}

  const std::string path_;
  const u32 number_;  // the image's number in the other process
  const u64 size_;

  // The bytes read last, in pieces larger than guests ask for at a time. Never visible.
  struct Piece {
    u64 offset;
    std::vector<u8> bytes;
  };
  Result<const Piece*> piece(u64 offset);
  std::deque<Piece> pieces_;
};

}  // namespace deja
