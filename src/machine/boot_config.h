// What to boot, and what came of it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"

namespace deja {

// What to do with a compressed Linux kernel (bzImage).
enum class BootMode : u8 {
  vmlinux,  // unpack it here and start the kernel proper; saves the guest up to 4.5 billion instructions
  bzimage,  // start the guest's own decompressor
};

// A file's content, which the caller keeps alive, and the name that messages call it by.
struct BootFile {
  std::string path;
  std::span<const u8> bytes;
};

// A framebuffer of 32-bit pixels: blue in the lowest byte, green, red.
struct LinearScreen {
  u64 address = 0;  // physical, below 4 GiB
  u16 width = 0, height = 0;
  u32 stride = 0;  // bytes from one line to the next
};

struct BootConfig {
  // Starts the machine instead of a kernel, at its reset vector; then nothing else here is looked at.
  std::optional<BootFile> firmware;
  BootFile kernel;
  std::optional<BootFile> initrd;  // for Multiboot: the one module
  std::string cmdline;
  unsigned vcpu_count = 1;
  // Given to Linux as setup_data SETUP_RNG_SEED; empty: none. A recorded input, at most kMaxRngSeed bytes.
  std::vector<u8> rng_seed;
  BootMode mode = BootMode::vmlinux;
  std::optional<LinearScreen> screen;  // switched on for the guest
  bool pci = false;                    // the machine has a PCI host bridge: the DSDT describes it
};

inline constexpr u64 kMaxRngSeed = 4_KiB;

enum class KernelKind : u8 { linux_bzimage, linux_vmlinux, multiboot };

// Where things were put; for logs and for debuggers.
struct BootLayout {
  KernelKind kind = KernelKind::linux_bzimage;
  u64 kernel_start = 0, kernel_end = 0;  // physical, end exclusive, including bss
  u64 entry = 0;                         // physical
  u64 initrd_start = 0, initrd_size = 0;
};

}  // namespace deja
