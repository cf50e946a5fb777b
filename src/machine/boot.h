// Puts a guest into memory and the boot CPU at its first instruction: what firmware and boot loader would do.
#pragma once

#include "base/result.h"
#include "guest/cpu_state.h"
#include "guest/ram.h"
#include "machine/boot_config.h"

namespace deja {

// Recognises the kernel by its content: a Linux bzImage, a Multiboot kernel, or an ELF64 vmlinux. Writes it,
// what it is told, and the firmware's tables (BIOS data area, ACPI) to RAM and sets the registers of `cpu`,
// vCPU 0 fresh from reset_cpu(). RAM may hold anything before, so this also serves a guest's reboot. Errors
// name the file or option at fault and what to do; RAM and registers are then unspecified.
Result<BootLayout> load_guest(GuestRam& ram, CpuState& cpu, const BootConfig& config);

}  // namespace deja
