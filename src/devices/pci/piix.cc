#include "devices/pci/piix.h"

namespace deja {
namespace {

// 82371SB data sheet, section 2.2; 82371AB (PIIX4) data sheet, section 7.1.
constexpr unsigned kHeaderType = 0x0e, kPirqRoute = 0x60, kPirqs = 4;
constexpr u8 kMultiFunction = 0x80, kRouteDisabled = 0x80;
constexpr unsigned kPmBase = 0x40, kDeviceActivityB = 0x58, kPmRegMisc = 0x80;
constexpr u32 kApmcEnable = 1u << 25, kIoSpaceIndicator = 1;
constexpr u8 kPmIoSpaceEnable = 1;

}  // namespace

PiixIsaBridge::PiixIsaBridge()
    : PciFunction("piix_isa_bridge", {0x8086, 0x7000, 0x060100, 0, 0x1af4, 0x1100}) {
  add_register(kHeaderType, 1, kMultiFunction, 0);
  for (unsigned i = 0; i < kPirqs; ++i) add_register(kPirqRoute + i, 1, kRouteDisabled, 0x8f);
}

PiixPowerManagement::PiixPowerManagement(u16 pm_base)
    : PciFunction("piix_power_management", {0x8086, 0x7113, 0x068000, 3, 0x1af4, 0x1100}) {
  add_register(kPmBase, 4, pm_base | kIoSpaceIndicator, 0);
  add_register(kDeviceActivityB, 4, kApmcEnable, 0);
  add_register(kPmRegMisc, 1, kPmIoSpaceEnable, 0);
}

}  // namespace deja
