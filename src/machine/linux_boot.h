// The 64-bit Linux boot protocol (Linux Documentation/arch/x86/boot.rst and zero-page.rst).
#pragma once

#include "base/result.h"
#include "guest/cpu_state.h"
#include "guest/ram.h"
#include "machine/boot_config.h"

namespace deja {

// Load a bzImage, or an ELF64 vmlinux; write boot_params, command line, setup_data and initrd; and put the
// boot CPU at the kernel's 64-bit entry point. Errors name the file or option at fault.
Result<BootLayout> load_linux_bzimage(GuestRam& ram, CpuState& cpu, const BootConfig& config);
Result<BootLayout> load_linux_vmlinux(GuestRam& ram, CpuState& cpu, const BootConfig& config);

}  // namespace deja
