// The ACPI tables of the machine (ACPI 6.4 chapter 5): RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT.
#pragma once

#include <string>
#include <vector>

#include "guest/ram.h"

namespace deja {

struct AcpiConfig {
  unsigned vcpu_count = 1;  // 1..kMaxAcpiVcpus, APIC id = index
  u64 pci_start = 0;        // the first address for BARs; 0: there is no PCI host bridge
  bool fw_cfg = false;      // there is a firmware configuration device
};

inline constexpr unsigned kMaxAcpiVcpus = 4096;

// The tables before anybody has decided where they stand: in three pieces, which point to each other.
struct AcpiTables {
  enum Piece : u8 { kRsdp, kTables, kFacs };
  static constexpr unsigned kPieces = 3;
  static constexpr unsigned kAlignment = 64;  // that each piece needs at least

  // The field of `size` bytes at `at` holds an offset into `target`, to which that piece's address is added.
  struct Pointer {
    Piece in;
    u64 at;
    u8 size;
    Piece target;
  };
  // The byte at `at` makes the sum of `length` bytes from `start` zero. It is zero before, and to be computed
  // once the pointers are, in this order.
  struct Checksum {
    Piece in;
    u64 at, start, length;
  };
  std::vector<u8> bytes[kPieces];
  std::vector<Pointer> pointers;
  std::vector<Checksum> checksums;
};
AcpiTables make_acpi_tables(const AcpiConfig& config);

// Writes them where E820Map says, and the RSDP at kRsdp, as firmware would. RAM is at least 2 MiB.
void write_acpi_tables(GuestRam& ram, const AcpiConfig& config);

}  // namespace deja
