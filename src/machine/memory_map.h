// Where everything stands in the machine: physical addresses, ports and interrupt lines. The wiring hands
// these to the devices, the loader and the ACPI tables tell the guest about them; nobody else knows a number.
// RAM itself is [0, 3 GiB) and [4 GiB, ...), see guest/ram.h.
#pragma once

#include "base/types.h"
#include "guest/ram.h"

namespace deja {

// --- The first megabyte, as PC firmware leaves it.
inline constexpr u64 kBdaStart = 0x400;         // BIOS data area
inline constexpr u64 kBootGdt = 0x500;          // GDT that the boot CPU starts with
inline constexpr u64 kBootInfo = 0x7000;        // Linux boot_params or the Multiboot information
inline constexpr u64 kBootStackTop = 0x9000;    // grows down, over the page behind kBootInfo
inline constexpr u64 kBootPageTables = 0x9000;  // PML4, PDPT, four page directories: identity map of 4 GiB
inline constexpr u64 kBootSetupData = 0x10000;  // Linux setup_data chain
inline constexpr u64 kBootCmdline = 0x20000;    // command line with its terminating zero
inline constexpr u64 kBootCmdlineSize = 64_KiB;
inline constexpr u64 kEbdaStart = 0x9fc00;   // extended BIOS data area, 1 KiB
inline constexpr u64 kVideoStart = 0xa0000;  // end of conventional memory
inline constexpr u64 kBiosStart = 0xe0000;   // searched for the RSDP by operating systems
inline constexpr u64 kRsdp = kBiosStart;
inline constexpr u64 kExtendedStart = 1_MiB;

// --- The last pages of RAM below 3 GiB: ACPI tables (e820 type 3), then the FACS page (ACPI NVS, type 4).
inline constexpr u64 kAcpiTablesSize = 124_KiB;
inline constexpr u64 kAcpiNvsSize = 4_KiB;

// --- Windows between 3 and 4 GiB.
// BARs, but for a gap in the middle. From 2 GiB up where RAM leaves room: firmware does so too, and places
// them from one of the ends.
inline constexpr u64 kMinPciMmioStart = 2_GiB;
inline u64 pci_mmio_start(const GuestRam& ram) {
  return ram.low_size() <= kMinPciMmioStart ? kMinPciMmioStart : kMaxLowRam;
}
inline constexpr u64 kPciMmioEnd = 0xfec00000;  // exclusive
inline constexpr u64 kEcamBase = 0xe0000000;    // PCI Express configuration space of bus 0
inline constexpr u64 kEcamSize = 1_MiB;
inline constexpr u64 kPciGapStart = kEcamBase;  // configuration space and video memory, see guest/ram.h
inline constexpr u64 kPciGapEnd = kVideoMemory + kMaxVideoMemory;
// Does the whole range lie where BARs are decoded? It may be any that a guest has programmed.
inline bool in_pci_window(const GuestRam& ram, u64 start, u64 size) {
  const auto within = [&](u64 first, u64 end) {
    return start >= first && start < end && size <= end - start;
  };
  return within(pci_mmio_start(ram), kPciGapStart) || within(kPciGapEnd, kPciMmioEnd);
}
inline constexpr u64 kIoapicBase = 0xfec00000;
inline constexpr u64 kIoapicSize = 4_KiB;
inline constexpr u64 kLapicBase = 0xfee00000;  // reset value of IA32_APIC_BASE
inline constexpr u64 kLapicSize = 4_KiB;
// The firmware's ROM ends at 4 GiB.

// --- Ports.
inline constexpr u16 kPicMasterPort = 0x20, kPicSlavePort = 0xa0, kElcrPort = 0x4d0;
inline constexpr u16 kPitPort = 0x40;
inline constexpr u16 kPort61 = 0x61;
inline constexpr u16 k8042DataPort = 0x60, k8042CommandPort = 0x64;
inline constexpr u16 kRtcPort = 0x70;
inline constexpr u16 kDebugExitPort = 0xf4;
inline constexpr u16 kCom1Port = 0x3f8;
inline constexpr u16 kFwCfgPort = 0x510;
inline constexpr u16 kPm1aEventPort = 0x600;    // PM1a_STS, PM1a_EN
inline constexpr u16 kPm1aControlPort = 0x604;  // PM1a_CNT
inline constexpr u16 kPmTimerPort = 0x608;
inline constexpr u16 kGpe0Port = 0x620;
inline constexpr u16 kPmPortsEnd = 0x640;        // exclusive; the whole block from kPm1aEventPort is ours
inline constexpr u16 kGuestControlPort = 0x700;  // to 7FFh
inline constexpr u16 kPciConfigAddressPort = 0xcf8, kPciConfigDataPort = 0xcfc;
inline constexpr u16 kResetPort = 0xcf9;
inline constexpr u8 kResetValue = 6;  // SYS_RST | RST_CPU

// --- Interrupts: ISA IRQ numbers, which are the IOAPIC's input (GSI) numbers too, but for the PIT.
inline constexpr unsigned kPitIrq = 0, kPitGsi = 2;
inline constexpr unsigned kKeyboardIrq = 1, kMouseIrq = 12;
inline constexpr unsigned kCom1Irq = 4;
inline constexpr unsigned kRtcIrq = 8;
inline constexpr unsigned kSciIrq = 9;  // level-triggered, active high
inline constexpr unsigned kPciGsiBase =
    16;  // INTA..INTD of slot 0; slot s, pin p is on kPciGsiBase + (s + p) % 4

// --- PCI slots.
// kIsaSlot is where firmware takes the functions of a PIIX to be.
inline constexpr unsigned kHostBridgeSlot = 0, kIsaSlot = 1, kConsoleSlot = 2, kNicSlot = 3,
                          kFirstDriveSlot = 4;
inline constexpr unsigned kIsaBridgeFunction = 0, kPowerManagementFunction = 3;
inline constexpr unsigned kMaxDrives = 16;
inline constexpr unsigned kScreenSlot = kFirstDriveSlot + kMaxDrives, kRngSlot = kScreenSlot + 1;

// SLP_TYP value in PM1a_CNT that means S5, soft off.
inline constexpr u8 kSleepTypeS5 = 5;

}  // namespace deja
