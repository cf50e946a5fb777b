#include "devices/i8042.h"

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

class I8042Test : public testing::Test {
 protected:
  I8042Test() { controller.attach(io); }
  void command(u8 c) { io.port_write(0x64, c, 1); }
  void data(u8 d) { io.port_write(0x60, d, 1); }
  u8 status() { return static_cast<u8>(io.port_read(0x64, 1)); }
  u8 data() { return static_cast<u8>(io.port_read(0x60, 1)); }

  FakeTime time;
  IoBus io;
  WireRecorder irq1{time}, irq12{time};
  int resets = 0;
  I8042 controller{irq1.line(), irq12.line(), [this] { resets++; }};
};

TEST_F(I8042Test, SelfTestAndCommandByte) {
  EXPECT_EQ(status() & 0x05, 0);
  command(0xaa);
  EXPECT_EQ(status() & 0x05, 0x05);
  EXPECT_EQ(data(), 0x55);
  EXPECT_EQ(status() & 0x01, 0);
  command(0x60), data(0x47);
  command(0x20);
  EXPECT_EQ(data(), 0x47);
  EXPECT_EQ(irq1.rises.size(), 1u);
}

TEST_F(I8042Test, TheKeyboardAnswersByteByByte) {
  command(0x60), data(0x03);
  data(0xf2);  // identify
  for (const u8 byte : {0xfa, 0xab, 0x83}) {
    EXPECT_EQ(status() & 0x61, 0x01);
    EXPECT_TRUE(irq1.level());
    EXPECT_EQ(data(), byte);
  }
  EXPECT_EQ(irq1.rises.size(), 3u);
  EXPECT_EQ(status() & 0x61, 0);
  EXPECT_FALSE(irq1.level());
  data(0xff);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0xaa);
  data(0xed), data(0x02);
  EXPECT_EQ(data(), 0xfa);
  EXPECT_EQ(data(), 0xfa);
  data(0xee);
  EXPECT_EQ(data(), 0xee);
}

TEST_F(I8042Test, KeysAreTranslatedWhenThatIsAskedFor) {
  const std::string_view a("\x1c\xf0\x1c", 3), right_control("\xe0\x14\xe0\xf0\x14", 5);
  command(0x60), data(0x01);
  controller.type(a);
  for (const u8 byte : {0x1c, 0xf0, 0x1c}) EXPECT_EQ(data(), byte);
  command(0x60), data(0x41);
  controller.type(a);
  controller.type(right_control);
  for (const u8 byte : {0x1e, 0x9e, 0xe0, 0x1d, 0xe0, 0x9d}) EXPECT_EQ(data(), byte);
  EXPECT_EQ(status() & 0x01, 0);
}

TEST_F(I8042Test, KeysWaitForTheirEnabling) {
  controller.type("\x1c");
  EXPECT_EQ(status() & 0x01, 0);
  command(0xae);
  EXPECT_EQ(status() & 0x01, 0x01);
  EXPECT_EQ(data(), 0x1c);
  data(0xf5);
  EXPECT_EQ(data(), 0xfa);
  controller.type("\x1c");
  EXPECT_EQ(status() & 0x01, 0) << "scanning is off";
  data(0xf4);
  EXPECT_EQ(data(), 0xfa);
  for (int i = 0; i < 100; ++i) controller.type("\x1c\x1d");
  for (unsigned i = 0; i < Ps2Keyboard::kBuffer; ++i) EXPECT_EQ(data(), i % 2 ? 0x1d : 0x1c);
}

TEST_F(I8042Test, NoMouseAnswers) {
  command(0x60), data(0x03);
  command(0xd4), data(0xf2);
  EXPECT_EQ(status() & 0x61, 0x61);
  EXPECT_TRUE(irq12.level());
  EXPECT_EQ(data(), 0xfe);
}

TEST_F(I8042Test, LoopbackCommands) {
  command(0xd3), data(0x5a);
  EXPECT_EQ(status() & 0x21, 0x21);
  EXPECT_EQ(data(), 0x5a);
  command(0xd2), data(0xa5);
  EXPECT_EQ(status() & 0x21, 0x01);
  EXPECT_EQ(data(), 0xa5);
  command(0xa7), command(0x20);
  EXPECT_TRUE(data() & 0x20);
  command(0xa8), command(0x20);
  EXPECT_FALSE(data() & 0x20);
}

TEST_F(I8042Test, Reset) {
  command(0xff);
  EXPECT_EQ(resets, 0);
  command(0xfe);
  EXPECT_EQ(resets, 1);
  command(0xd1), data(0x02);
  EXPECT_EQ(resets, 2);
}

}  // namespace
}  // namespace deja
