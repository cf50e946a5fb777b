#include "devices/pci/piix.h"

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

constexpr u16 kPmBase = 0x600;

TEST(Piix, SaysWhereThePowerManagementRegistersAreAndThatTheyAreSetUp) {
  PiixPowerManagement power(kPmBase);
  EXPECT_EQ(power.config_read(0, 4), 0x71138086u);
  power.config_write(0x40, 0xb000, 4);
  EXPECT_EQ(power.config_read(0x40, 4), kPmBase | 1u) << "where they stand is wired";
  EXPECT_EQ(power.config_read(0x80, 1) & 1, 1u) << "decoded";
  EXPECT_EQ(power.config_read(0x58, 4), 1u << 25) << "no firmware needs to set up SMM";
}

TEST(Piix, TheIsaBridgeIsTheFirstOfSeveralFunctions) {
  PiixIsaBridge bridge;
  EXPECT_EQ(bridge.config_read(0, 4), 0x70008086u);
  EXPECT_EQ(bridge.config_read(8, 4) >> 8, 0x060100u);
  EXPECT_EQ(bridge.config_read(0x0e, 1), 0x80u);
  bridge.config_write(0x60, 0x0a0b0a0b, 4);
  EXPECT_EQ(bridge.config_read(0x60, 4), 0x0a0b0a0bu);
  bridge.reset();
  EXPECT_EQ(bridge.config_read(0x60, 4), 0x80808080u);
}

}  // namespace
}  // namespace deja
