// Kernels for the Multiboot Specification version 0.6.96 ("Multiboot 1"): our bare-metal test guests and
// others.
#pragma once

#include <span>

#include "base/result.h"
#include "guest/cpu_state.h"
#include "guest/ram.h"
#include "machine/boot_config.h"

namespace deja {

// Is there a header with the right magic and checksum in the first 8 KiB?
bool is_multiboot(std::span<const u8> file);

// Loads the kernel (ELF, or by the addresses in its header), the initrd as its one module, and the Multiboot
// information; and puts the boot CPU at the entry point in 32-bit protected mode.
Result<BootLayout> load_multiboot(GuestRam& ram, CpuState& cpu, const BootConfig& config);

}  // namespace deja
