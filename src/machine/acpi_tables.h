// The ACPI tables of the machine (ACPI 6.4 chapter 5): RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT.
#pragma once

#include "guest/ram.h"

namespace deja {

struct AcpiConfig {
  unsigned vcpu_count = 1;  // 1..kMaxAcpiVcpus, APIC id = index
  bool pci = false;         // there is a PCI host bridge
};

inline constexpr unsigned kMaxAcpiVcpus = 4096;

// Writes them where E820Map says, and the RSDP at kRsdp. RAM is at least 2 MiB.
void write_acpi_tables(GuestRam& ram, const AcpiConfig& config);

}  // namespace deja
