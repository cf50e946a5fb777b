#include "devices/i8254.h"

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

class I8254Test : public testing::Test {
 protected:
  I8254Test() { pit.attach(io); }
  void out(u16 port, u8 value) { io.port_write(port, value, 1); }
  u8 in(u16 port) { return static_cast<u8>(io.port_read(port, 1)); }
  void program(unsigned channel, unsigned mode, u16 count, bool bcd = false) {
    out(0x43, static_cast<u8>(channel << 6 | 0x30 | mode << 1 | bcd));
    out(static_cast<u16>(0x40 + channel), static_cast<u8>(count));
    out(static_cast<u16>(0x40 + channel), static_cast<u8>(count >> 8));
  }
  u16 count(unsigned channel) {
    out(0x43, static_cast<u8>(channel << 6));
    const u16 port = static_cast<u16>(0x40 + channel);
    const u8 low = in(port);
    return static_cast<u16>(low | in(port) << 8);
  }
  u8 status(unsigned channel) {
    out(0x43, static_cast<u8>(0xe0 | 2 << channel));
    return in(static_cast<u16>(0x40 + channel));
  }
  // To the first nanosecond of a tick.
  void to_tick(u64 tick) { run_until(time, at(tick), pit); }
  static VtimeNs at(u64 tick) { return (u128{tick} * 1'000'000'000 + 1'193'181) / 1'193'182; }

  FakeTime time;
  IoBus io;
  WireRecorder irq{time};
  I8254 pit{time, irq.line()};
};

TEST_F(I8254Test, IdleUntilProgrammed) {
  EXPECT_EQ(pit.next_event(), kNeverNs);
  to_tick(1'000'000);
  EXPECT_TRUE(irq.rises.empty());
}

TEST_F(I8254Test, Mode0InterruptsOnTerminalCount) {
  program(0, 0, 1000);
  EXPECT_FALSE(irq.level());
  to_tick(1000);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(count(0), 1);
  to_tick(1001);  // N + 1 clocks after the write
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(irq.rises, std::vector<VtimeNs>{at(1001)});
  to_tick(1011);
  EXPECT_EQ(count(0), 0xfff6);  // goes on from FFFFh
  EXPECT_TRUE(irq.level());
}

TEST_F(I8254Test, Mode2IsExactForHours) {
  program(0, 2, 11932);  // Linux's HZ=100
  const u64 periods = 3600 * 100;
  run_until(time, at(1 + periods * 11932), pit);
  // The control word takes the output high; from then on each rise is a period on.
  ASSERT_EQ(irq.rises.size(), periods + 1);
  for (u64 k = 1; k <= periods; k++) ASSERT_EQ(irq.rises[k], at(1 + k * 11932));
}

TEST_F(I8254Test, Mode2LowForOneTick) {
  program(0, 2, 5);
  to_tick(1);
  EXPECT_EQ(count(0), 5);
  to_tick(4);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(count(0), 2);
  to_tick(5);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(count(0), 1);
  to_tick(6);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(count(0), 5);
}

TEST_F(I8254Test, Mode2NewCountWaitsForTheEndOfThePeriod) {
  program(0, 2, 100);
  to_tick(50);
  out(0x40, 10), out(0x40, 0);
  EXPECT_TRUE(status(0) & 0x40);  // null count
  to_tick(100);
  EXPECT_EQ(count(0), 1);
  to_tick(101);
  EXPECT_EQ(count(0), 10);
  EXPECT_FALSE(status(0) & 0x40);
  to_tick(111);
  EXPECT_EQ(irq.rises.back(), at(111));
}

TEST_F(I8254Test, Mode3SquareWave) {
  program(0, 3, 7);  // odd: high for 4, low for 3
  std::string wave, counts;
  for (u64 t = 1; t <= 14; t++) {
    to_tick(t);
    wave += irq.level() ? '1' : '0';
    counts += static_cast<char>('0' + count(0));
  }
  EXPECT_EQ(wave, "11110001111000");
  EXPECT_EQ(counts, "64206426420642");
}

TEST_F(I8254Test, Mode3NewCountWaitsForTheHalfCycle) {
  program(0, 3, 100);
  to_tick(10);
  out(0x40, 10), out(0x40, 0);
  to_tick(50);
  EXPECT_TRUE(irq.level());
  to_tick(51);
  EXPECT_FALSE(irq.level());
  to_tick(56);  // the low half is 5 long already
  EXPECT_TRUE(irq.level());
}

TEST_F(I8254Test, Mode4Strobe) {
  program(0, 4, 10);
  EXPECT_TRUE(irq.level());
  to_tick(11);
  EXPECT_FALSE(irq.level());
  to_tick(12);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(pit.next_event(), kNeverNs);
}

TEST_F(I8254Test, Channel2GateAndPort61) {
  out(0x61, 0);
  program(2, 0, 100);
  to_tick(500);
  EXPECT_EQ(count(2), 100);  // the gate holds it
  out(0x61, 1);
  to_tick(560);
  EXPECT_EQ(count(2), 40);
  out(0x61, 0);
  to_tick(700);
  EXPECT_EQ(count(2), 40);
  EXPECT_FALSE(in(0x61) & 0x20);
  out(0x61, 1);
  to_tick(739);
  EXPECT_FALSE(in(0x61) & 0x20);
  to_tick(740);
  EXPECT_TRUE(in(0x61) & 0x20);
  EXPECT_EQ(in(0x61) & 0x0f, 1);
}

TEST_F(I8254Test, Modes1And5AreTriggeredByTheGate) {
  out(0x61, 0);
  program(2, 1, 10);
  to_tick(100);
  EXPECT_TRUE(in(0x61) & 0x20);
  out(0x61, 1);  // loaded at 101
  to_tick(105);
  EXPECT_FALSE(in(0x61) & 0x20);
  out(0x61, 0), out(0x61, 1);  // retriggered: loaded at 106
  to_tick(115);
  EXPECT_FALSE(in(0x61) & 0x20);
  to_tick(116);
  EXPECT_TRUE(in(0x61) & 0x20);
  out(0x61, 0);
  program(2, 5, 10);
  out(0x61, 1);
  to_tick(127);
  EXPECT_FALSE(in(0x61) & 0x20);
  to_tick(128);
  EXPECT_TRUE(in(0x61) & 0x20);
}

TEST_F(I8254Test, RefreshToggles) {
  EXPECT_FALSE(in(0x61) & 0x10);
  to_tick(18);
  EXPECT_TRUE(in(0x61) & 0x10);
  to_tick(36);
  EXPECT_FALSE(in(0x61) & 0x10);
}

TEST_F(I8254Test, BcdLatchAndReadBack) {
  program(0, 2, 0x1000, true);
  to_tick(2);
  EXPECT_EQ(count(0), 0x0999);
  out(0x43, 0xc2);  // read back count and status of channel 0
  to_tick(500);
  out(0x43, 0x00);  // already latched: ignored
  EXPECT_EQ(in(0x40), 0x80 | 0x30 | 2 << 1 | 1);
  EXPECT_EQ(in(0x40), 0x99);
  EXPECT_EQ(in(0x40), 0x09);
  EXPECT_EQ(in(0x40), 0x01);  // 501 = 1000 - (500 - 1), live again
  EXPECT_EQ(in(0x40), 0x05);
}

TEST_F(I8254Test, ByteAccessModes) {
  out(0x43, 0x10);  // channel 0, low byte only, mode 0
  EXPECT_EQ(status(0), 0x50);
  out(0x40, 200);
  EXPECT_EQ(pit.next_event(), at(201));
  out(0x43, 0x20);  // high byte only
  out(0x40, 1);
  EXPECT_EQ(pit.next_event(), at(257));
  program(0, 0, 0);  // 65536
  EXPECT_EQ(pit.next_event(), at(65537));
}

}  // namespace
}  // namespace deja
