// What else an i440FX board has on its PCI bus beside the host bridge: the bridge to the ISA devices (PIIX3,
// function 0) and the function that says where the power management registers are (PIIX4, function 3), as on
// QEMU's board. UEFI's firmware looks for the serial port behind the one, and for the timer that it measures
// time by through the other.
#pragma once

#include "devices/pci/pci_bus.h"

namespace deja {

// Its interrupt routing registers can be written, and change nothing: the ACPI tables lead INTx to the
// IOAPIC.
class PiixIsaBridge final : public PciFunction {
 public:
  PiixIsaBridge();
};

// The registers stand at `pm_base`, switched on, and stay there: this is what firmware for virtual machines
// takes for the work of one that ran before it. There is no system management mode, and the function says
// that it is set up.
class PiixPowerManagement final : public PciFunction {
 public:
  explicit PiixPowerManagement(u16 pm_base);
};

}  // namespace deja
