// Starting the machine as hardware does: from a firmware image at the end of the first 4 GiB, which finds out
// through the firmware configuration device what the machine has, and loads an operating system from a disk.
#pragma once

#include <vector>

#include "base/result.h"
#include "devices/fw_cfg.h"
#include "guest/ram.h"
#include "machine/acpi_tables.h"
#include "machine/boot_config.h"

namespace deja {

// Can the machine start from this file? The error names it.
Status check_firmware(const BootFile& firmware);

// What firmware is told: memory, processors, ACPI tables, from which disks to boot (PCI slots, in order), and
// that its screen is COM1.
FwCfgItems firmware_items(const GuestRam& ram, const AcpiConfig& acpi,
                          const std::vector<unsigned>& boot_slots);

// Power-on and reset: the image into the ROM, and its end into the memory below 1 MiB, where firmware expects
// to find itself shadowed.
void load_firmware(GuestRam& ram, const BootFile& firmware);

}  // namespace deja
