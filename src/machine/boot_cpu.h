// The state in which firmware and boot loaders leave the boot CPU. All functions start from reset_cpu().
#pragma once

#include "guest/cpu_state.h"
#include "guest/ram.h"

namespace deja {

// Memory types as firmware sets them, the same on every vCPU: write-back by default, uncacheable for video
// memory and from pci_start (2 or 3 GiB) to 4 GiB. Without it Linux turns PAT off. physical_bits:
// CpuModel::physical_bits.
void set_firmware_mtrrs(CpuState& cpu, u64 pci_start, unsigned physical_bits);

// Flat 4 GiB segments: code 10h, data 18h (Linux __BOOT_CS and __BOOT_DS), interrupts off.
// 32-bit protected mode without paging (Multiboot 0.6.96 section 3.2).
void enter_protected_mode(GuestRam& ram, CpuState& cpu, u64 entry);
// 64-bit mode, the first 4 GiB mapped to themselves (Linux Documentation/arch/x86/boot.rst, 64-bit boot
// protocol).
void enter_long_mode(GuestRam& ram, CpuState& cpu, u64 entry);

}  // namespace deja
