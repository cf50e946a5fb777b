#include "machine/e820.h"

#include "base/check.h"

namespace deja {

E820Map::E820Map(u64 low_ram, u64 high_ram, u64 video_memory) {
  DEJA_CHECK(low_ram >= 2_MiB && low_ram <= kMaxLowRam, "low RAM {:#x}", low_ram);
  acpi_tables_ = low_ram - kAcpiTablesSize - kAcpiNvsSize;
  // 0xA0000..0xDFFFF is in no entry, as on PCs: video memory and option ROMs are not RAM, nor claimed by
  // firmware.
  entries_ = {
      {0, kEbdaStart, E820Type::ram},
      {kEbdaStart, kVideoStart - kEbdaStart, E820Type::reserved},
      {kBiosStart, kExtendedStart - kBiosStart, E820Type::reserved},
      {kExtendedStart, acpi_tables_ - kExtendedStart, E820Type::ram},
      {acpi_tables_, kAcpiTablesSize, E820Type::acpi_reclaimable},
      {acpi_nvs(), kAcpiNvsSize, E820Type::acpi_nvs},
      {kEcamBase, kEcamSize, E820Type::reserved},
  };
  if (video_memory) entries_.push_back({kVideoMemory, video_memory, E820Type::reserved});
  if (high_ram) entries_.push_back({kHighRamStart, high_ram, E820Type::ram});
}

bool E820Map::loadable(u64 start, u64 size) const {
  for (const E820Entry& e : entries_)
    if (e.type == E820Type::ram && e.start >= kExtendedStart && start >= e.start && start < e.end())
      return size <= e.end() - start;
  return false;
}

}  // namespace deja
