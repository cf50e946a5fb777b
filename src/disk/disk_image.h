// Opens disk images of the formats we know. Nothing here ever writes to one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "devices/block_image.h"
#include "disk/host_file.h"

namespace deja {

struct DiskImage {
  std::string path;      // as the user wrote it
  std::string format;    // "raw", "qcow2"
  std::string identity;  // HostFile::identity() when it was opened
  u64 file_size = 0;     // of the host's file, in bytes
  std::shared_ptr<BlockImage> content;
};

// `format` empty: found by looking. A guest cannot make a raw disk look like another format, since what it
// writes does not go to the image.
Result<DiskImage> open_disk_image(const std::string& path, std::string_view format);

}  // namespace deja
