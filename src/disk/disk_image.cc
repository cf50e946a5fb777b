#include "disk/disk_image.h"

#include <algorithm>
#include <array>

#include "disk/image_process.h"
#include "disk/qcow2_image.h"
#include "disk/vdi_image.h"
#include "disk/vmdk_image.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

class RawImage final : public BlockImage {
 public:
  explicit RawImage(HostFile file) : file_(std::move(file)) {}
  u64 size() const override { return file_.size(); }
  Status read(u64 offset, std::span<u8> out) override { return file_.read_or_zeros(offset, out); }

 private:
  HostFile file_;
};

constexpr u64 kLargest = u64{1} << 44;  // 16 TiB

// The formats other than raw.
struct Format {
  std::string_view name;
  bool (*is_one)(std::span<const u8> start);  // of a file that starts like this
  Result<std::shared_ptr<BlockImage>> (*open)(HostFile file);
};
constexpr Format kFormats[] = {{"qcow2", Qcow2Image::is_one, Qcow2Image::open},
                               {"vmdk", VmdkImage::is_one, VmdkImage::open},
                               {"vdi", VdiImage::is_one, VdiImage::open}};

}  // namespace

Result<std::shared_ptr<BlockImage>> read_format(HostFile file, std::string_view format) {
  for (const Format& f : kFormats)
    if (f.name == format) return f.open(std::move(file));
  return std::shared_ptr<BlockImage>(std::make_shared<RawImage>(std::move(file)));
}

Result<DiskImage> open_disk_image(const std::string& path, std::string_view format) {
  DEJA_ASSIGN(HostFile file, HostFile::open(path));
  std::array<u8, 512> start{};
  DEJA_TRY(file.read_or_zeros(0, start));
  const auto* const found = std::find_if(std::begin(kFormats), std::end(kFormats),
                                         [&](const Format& f) { return f.is_one(start); });
  const std::string_view looks_like = found == std::end(kFormats) ? "raw" : found->name;
  DiskImage image;
  image.path = path;
  image.format = format.empty() ? looks_like : format;
  image.file_size = file.size();
  DEJA_ASSIGN(image.identity, file.identity());
  const auto is_known = [&](const Format& f) { return f.name == image.format; };
  if (image.format != "raw" && std::none_of(std::begin(kFormats), std::end(kFormats), is_known))
    return make_error(
        "disk image '{}': the format '{}' is not known; there are raw, qcow2, vmdk and vdi (`qemu-img "
        "convert` "
        "makes one of them)",
        path, image.format);
  if (image.format != "raw" && image.format != looks_like)
    return make_error("disk image '{}': is not in the format {}", path, image.format);
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
