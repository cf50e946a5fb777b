#include "disk/disk_image.h"

#include <algorithm>
#include <array>
#include <optional>

#include "disk/foreign_format.h"
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

// The formats that a file or a disk shows signs of.
struct Looks {
  std::string_view like = "raw";         // the format that it would be read as
  std::optional<ForeignFormat> foreign;  // one that is not read here
};

Result<Looks> look_at(const ReadDisk& read, u64 size) {
  std::array<u8, kSignBytes> start{}, end{};
  const std::size_t n = std::min<u64>(size, kSignBytes);
  DEJA_TRY(read(0, std::span(start).first(n)));
  DEJA_TRY(read(size - n, std::span(end).first(n)));
  Looks looks;
  looks.foreign = foreign_format(std::span(start).first(n), std::span(end).first(n));
  for (const Format& f : kFormats)
    if (f.is_one(std::span(start).first(n))) looks.like = f.name;
  return looks;
}

bool is_called_raw(const std::string& path) { return path.ends_with(".raw"); }

// Nobody said what the file is.
Status check_found(const Looks& looks, const std::string& path) {
  if (looks.foreign)
    return make_error(
        "disk image '{}': looks like {}, which is not supported; {}. If it is a raw disk on which a guest "
        "has written "
        "that, say so: --drive file={},format=raw",
        path, looks.foreign->name, remedy(*looks.foreign, path), path);
  if (looks.like != "raw" && is_called_raw(path))
    return make_error(
        "disk image '{}': is called raw and looks like {}, as which a guest may have made it look; say which "
        "it is: "
        "--drive file={},format=raw or format={}",
        path, looks.like, path, looks.like);
  return {};
}

// The user did, or the recorder.
Status check_given(const Looks& looks, const std::string& path, std::string_view format) {
  if (format == "raw") return {};
  if (const auto foreign = foreign_format_named(format))
    return make_error("disk image '{}': the format {} is not supported; {}", path, format,
                      remedy(*foreign, path));
  if (std::none_of(std::begin(kFormats), std::end(kFormats),
                   [&](const Format& f) { return f.name == format; }))
    return make_error(
        "disk image '{}': the format '{}' is not known; there are raw, qcow2, vmdk and vdi (`qemu-img "
        "convert` makes "
        "one of them)",
        path, format);
  if (looks.like == format && !(looks.foreign && looks.foreign->qemu_name == "qcow")) return {};
  if (looks.foreign)
    return make_error("disk image '{}': is not in the format {}: it looks like {}; {}", path, format,
                      looks.foreign->name, remedy(*looks.foreign, path));
  return make_error("disk image '{}': is not in the format {}", path, format);
}

}  // namespace

Status check_raw_name(const ReadDisk& read, u64 size, const std::string& path) {
  if (is_called_raw(path)) return {};
  DEJA_ASSIGN(const Looks looks, look_at(read, size));
  if (looks.like == "raw" && !looks.foreign) return {};
  return make_error(
      "{}: a raw copy of this disk looks like {}, as the guest has made it look, and would be taken for "
      "that; give the "
      "file a name that ends in .raw",
      path, looks.foreign ? looks.foreign->name : looks.like);
}

Result<std::shared_ptr<BlockImage>> read_format(HostFile file, std::string_view format) {
  for (const Format& f : kFormats)
    if (f.name == format) return f.open(std::move(file));
  return std::shared_ptr<BlockImage>(std::make_shared<RawImage>(std::move(file)));
}

Result<DiskImage> open_disk_image(const std::string& path, std::string_view format) {
  DEJA_ASSIGN(HostFile file, HostFile::open(path));
  return open_disk_image(std::move(file), format);
}

Result<DiskImage> open_disk_image(HostFile file, std::string_view format) {
  const std::string path = file.path();
  DEJA_ASSIGN(const Looks looks,
              look_at([&](u64 at, std::span<u8> out) { return file.read(at, out); }, file.size()));
  DEJA_TRY(format.empty() ? check_found(looks, path) : check_given(looks, path, format));
  DiskImage image;
  image.path = path;
  image.format = format.empty() ? looks.like : format;
  image.file_size = file.size();
  DEJA_ASSIGN(image.identity, file.identity());
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
