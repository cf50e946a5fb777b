// Opens disk images of the formats we know. Nothing here ever writes to one. With the sandbox on, another
// process makes sense of what they hold (image_process.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "devices/block_image.h"
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

// What the host's file holds, read in this process. `format` is one that there is.
Result<std::shared_ptr<BlockImage>> read_format(HostFile file, std::string_view format);

// `format` empty: found by looking. A guest cannot make a raw disk look like another format, since what it
// writes does not go to the image.
Result<DiskImage> open_disk_image(const std::string& path, std::string_view format);

}  // namespace deja
