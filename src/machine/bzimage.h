// The Linux x86 kernel image and its setup header (Linux Documentation/arch/x86/boot.rst, "The Real-Mode
// Kernel Header").
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// A checked view of an image that the caller keeps alive: a kernel that has a 64-bit entry point.
struct BzImage {
  std::span<const u8> header;          // setup header: file bytes from 1F1h to its end
  std::span<const u8> protected_mode;  // what is loaded and started
  std::span<const u8> payload;         // the compressed kernel in it, with what Linux appends
  u16 version = 0;                     // boot protocol, 0x20F is 2.15
  u32 initrd_addr_max = 0;             // highest address that the initrd may occupy
  u32 cmdline_size = 0;                // longest command line without its terminating zero
  u64 preferred_address = 0;
  u64 init_size = 0;  // memory needed from preferred_address on, until the kernel has read the memory map
};

// Offset of the setup header in the file and in boot_params.
inline constexpr u64 kSetupHeader = 0x1f1;

bool is_bzimage(std::span<const u8> file);
// Errors say what is wrong, not with which file.
Result<BzImage> parse_bzimage(std::span<const u8> file);
// The ELF file packed in the image, unpacked.
Result<std::vector<u8>> extract_vmlinux(const BzImage& image);

}  // namespace deja
