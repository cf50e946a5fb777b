// Finds the kernel that a disk would start, so that an image alone is enough to run it without firmware.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"
#include "devices/storage/block_image.h"

namespace deja {

// Kernels and initrds that are larger are not taken.
inline constexpr u64 kMaxBootFile = 256_MiB;

struct BootDisk {
  std::string kernel_path, initrd_path;  // on the disk; no initrd: empty
  std::vector<u8> kernel, initrd;
  unsigned partition = 0;  // that holds the root file system; 0: the disk has no partitions
};

// The first file system (partitions of an MBR or GPT in order, or the whole disk) that is ext2, ext3 or ext4
// and has /vmlinuz, or a kernel in /boot. The error says what was found instead, not on which disk.
Result<BootDisk> find_boot_disk(BlockImage& disk);

}  // namespace deja
