#include "disk/disk_image.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "disk/image_process.h"
#include "disk/qcow2_image.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

class RawImage final : public BlockImage {
 public:
  explicit RawImage(HostFile file) : file_(std::move(file)) {}
  u64 size() const override { return file_.size(); }
  Status read(u64 offset, std::span<u8> out) override {
    const u64 there = offset < file_.size() ? std::min<u64>(out.size(), file_.size() - offset) : 0;
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(there), out.end(), u8{0});
    return file_.read(offset, out.first(there));
  }

 private:
  HostFile file_;
};

constexpr u64 kLargest = u64{1} << 44;  // 16 TiB

}  // namespace

Result<std::shared_ptr<BlockImage>> read_format(HostFile file, std::string_view format) {
  if (format == "qcow2") return Qcow2Image::open(std::move(file));
  return std::shared_ptr<BlockImage>(std::make_shared<RawImage>(std::move(file)));
}

Result<DiskImage> open_disk_image(const std::string& path, std::string_view format) {
  DEJA_ASSIGN(HostFile file, HostFile::open(path));
  std::array<u8, 4> magic{};
  if (file.size() >= magic.size()) DEJA_TRY(file.read(0, magic));
  const bool is_qcow2 = std::memcmp(magic.data(), "QFI\xfb", 4) == 0;
  DiskImage image;
  image.path = path;
  image.format = format.empty() ? (is_qcow2 ? "qcow2" : "raw") : std::string(format);
  image.file_size = file.size();
  DEJA_ASSIGN(image.identity, file.identity());
  if (image.format == "qcow2" && !is_qcow2)
    return make_error("disk image '{}': is not in the format qcow2", path);
  if (image.format != "raw" && image.format != "qcow2")
    return make_error(
        "disk image '{}': the format '{}' is not known; there are raw and qcow2 (`qemu-img convert` makes "
        "one of them)",
        path, image.format);
  if (sandbox::enabled()) {
    DEJA_ASSIGN(const std::shared_ptr<RemoteImage> remote, RemoteImage::open(file, image.format));
    image.find_boot = [remote] { return remote->find_boot(); };
    image.content = remote;
  }
  // In a raw image there is nothing to make sense of, so it is read here.
  if (!sandbox::enabled() || image.format == "raw") {
    DEJA_ASSIGN(image.content, read_format(std::move(file), image.format));
  }
  if (!image.find_boot) image.find_boot = [content = image.content] { return find_boot_disk(*content); };
  const u64 size = image.content->size();
  if (size == 0) return make_error("disk image '{}': is empty", path);
  if (size > kLargest) return make_error("disk image '{}': is larger than 16 TiB", path);
  return image;
}

}  // namespace deja
