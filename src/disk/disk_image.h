// Opens disk images of the formats we know. Nothing here ever writes to one. With the sandbox on, another
// process makes sense of what they hold (image_process.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "devices/storage/block_image.h"
#include "disk/boot_disk.h"
#include "disk/host_file.h"

namespace deja {

struct DiskImage {
  std::string path;      // as the user wrote it
  std::string format;    // "raw", "qcow2", "vmdk", "vdi"
  std::string identity;  // HostFile::identity() when it was opened
  u64 file_size = 0;     // of the host's file, in bytes
  std::shared_ptr<BlockImage> content;
  std::function<Result<BootDisk>()> find_boot;  // the kernel on it
};

// Opens the image in this process. `format` is one of those that are read here.
Result<std::shared_ptr<BlockImage>> read_format(HostFile file, std::string_view format);

// An empty `format` is found by looking, but bytes that a guest wrote to a raw disk never choose it: a file
// that shows signs of a format that is not read here, or is called .raw and shows signs of any, is refused
// with the option to use. A given `format` is taken as it is; raw is always raw.
Result<DiskImage> open_disk_image(const std::string& path, std::string_view format);
// The same for an open file.
Result<DiskImage> open_disk_image(HostFile file, std::string_view format);

// Whether a raw image of a disk, as a guest left it, would be taken for one when it is opened as `path`
// without a format. If not, the error says
// which name it needs.
using ReadDisk = std::function<Status(u64 offset, std::span<u8> out)>;
Status check_raw_name(const ReadDisk& read, u64 size, const std::string& path);

}  // namespace deja
