// `--drive` as on QEMU's command line.
#pragma once

#include <string_view>

#include "replay/guest_setup.h"

namespace deja {

struct DriveOption {
  DriveFile file;
  DriveSpec spec;  // the format is known once the image is open
};

// "file=PATH[,if=virtio][,format=raw|qcow2|vmdk|vdi][,readonly[=on|off]][,serial=TEXT]
// [,logical_block_size=BYTES][,physical_block_size=BYTES]"; a comma in PATH is written twice. `index` is the
// drive's number, from which its name is made. The physical size is the logical one unless it is given.
Result<DriveOption> parse_drive(std::string_view text, std::size_t index);

}  // namespace deja
