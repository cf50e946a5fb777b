#include "devices/acpi_pm.h"

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

class AcpiPmTest : public testing::Test {
 protected:
  AcpiPmTest() { pm.attach(io); }
  void out(u16 port, u32 value, unsigned size) { io.port_write(port, value, size); }
  u32 in(u16 port, unsigned size) { return io.port_read(port, size); }

  FakeTime time;
  IoBus io;
  WireRecorder sci{time};
  int power_offs = 0;
  AcpiPm pm{0x600, 5, time, sci.line(), [this] { power_offs++; }};
};

TEST_F(AcpiPmTest, TimerIsExact) {
  EXPECT_EQ(in(0x608, 4), 0u);
  time.now_ = kNsPerSecond;
  EXPECT_EQ(in(0x608, 4), 3'579'545u);
  time.now_ = 86'400 * kNsPerSecond;
  EXPECT_EQ(in(0x608, 4), 86'400ull * 3'579'545 % (1 << 24));
  EXPECT_EQ(in(0x609, 1), 86'400ull * 3'579'545 / 256 % 256);
}

TEST_F(AcpiPmTest, TimerCarry) {
  out(0x602, 1, 2);
  const VtimeNs half = (u128{1 << 23} * kNsPerSecond + 3'579'544) / 3'579'545;
  EXPECT_EQ(pm.next_event(), half);
  run_until(time, half - 1, pm);
  EXPECT_EQ(in(0x600, 2), 0u);
  run_until(time, half, pm);
  EXPECT_TRUE(sci.level());
  EXPECT_EQ(in(0x600, 2), 1u);
  out(0x600, 1, 2);
  EXPECT_FALSE(sci.level());
  EXPECT_EQ(pm.next_event(), (u128{1 << 24} * kNsPerSecond + 3'579'544) / 3'579'545);
}

TEST_F(AcpiPmTest, PowerButton) {
  pm.power_button();
  EXPECT_FALSE(sci.level());
  out(0x602, 0x100, 2);
  EXPECT_TRUE(sci.level());
  EXPECT_EQ(in(0x600, 4), 0x01000100u);
  out(0x600, 0x100, 2);
  EXPECT_FALSE(sci.level());
  pm.power_button();
  EXPECT_TRUE(sci.level());
}

TEST_F(AcpiPmTest, AlarmOfTheClock) {
  pm.rtc_alarm();
  EXPECT_EQ(in(0x600, 2), 0x400u) << "whether or not anybody wants to be told";
  EXPECT_FALSE(sci.level());
  out(0x602, 0x400, 2);
  EXPECT_TRUE(sci.level());
  out(0x600, 0x400, 2);
  EXPECT_FALSE(sci.level());
}

TEST_F(AcpiPmTest, ControlAndSoftOff) {
  EXPECT_EQ(in(0x604, 2), 1u);  // SCI_EN
  out(0x604, 5 << 10, 2);
  EXPECT_EQ(in(0x604, 2), 0x1401u);
  EXPECT_EQ(power_offs, 0);
  out(0x604, 5 << 10 | 1 << 13, 2);
  EXPECT_EQ(power_offs, 1);
  out(0x604, 3 << 10 | 1 << 13, 2);  // no such state: awake again
  EXPECT_EQ(power_offs, 1);
  EXPECT_EQ(in(0x600, 2), 0x8000u);
}

TEST_F(AcpiPmTest, GeneralPurposeEvents) {
  pm.raise_gpe(9);
  EXPECT_EQ(in(0x620, 2), 0x200u);
  out(0x622, 0x200, 2);
  EXPECT_TRUE(sci.level());
  out(0x620, 0x200, 2);
  EXPECT_FALSE(sci.level());
}

}  // namespace
}  // namespace deja
