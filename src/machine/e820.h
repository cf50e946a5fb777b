// The map of physical memory that firmware reports (ACPI 6.4 chapter 15, INT 15h AX=E820h).
#pragma once

#include <vector>

#include "base/types.h"
#include "guest/ram.h"
#include "machine/memory_map.h"

namespace deja {

enum class E820Type : u32 { ram = 1, reserved = 2, acpi_reclaimable = 3, acpi_nvs = 4 };

struct E820Entry {
  u64 start = 0;
  u64 size = 0;
  E820Type type = E820Type::ram;
  u64 end() const { return start + size; }
  bool operator==(const E820Entry&) const = default;
};

// Sorted by address, not overlapping.
class E820Map {
 public:
  // low_ram, high_ram: bytes of RAM below 3 GiB and from 4 GiB up (GuestRam::low_size(), high_size());
  // low_ram is at least 2 MiB. video_memory: of it, in the hole.
  E820Map(u64 low_ram, u64 high_ram, u64 video_memory = 0);
  explicit E820Map(const GuestRam& ram) : E820Map(ram.low_size(), ram.high_size(), ram.video_size()) {}

  const std::vector<E820Entry>& entries() const { return entries_; }
  // Is the whole range usable RAM from 1 MiB up? That is where kernels and their modules may go.
  bool loadable(u64 start, u64 size) const;
  // End of the usable range that starts at 1 MiB.
  u64 low_usable_end() const { return acpi_tables_; }
  u64 acpi_tables() const { return acpi_tables_; }
  u64 acpi_nvs() const { return acpi_tables_ + kAcpiTablesSize; }

 private:
  std::vector<E820Entry> entries_;
  u64 acpi_tables_ = 0;
};

}  // namespace deja
