#include "devices/mc146818.h"

#include <fmt/format.h>

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

constexpr u64 kSecond = kNsPerSecond;

class Mc146818Test : public testing::Test {
 protected:
  Mc146818Test() { rtc.attach(io); }
  void write(u8 reg, u8 value) { io.port_write(0x70, reg, 1), io.port_write(0x71, value, 1); }
  u8 read(u8 reg) {
    io.port_write(0x70, reg, 1);
    return static_cast<u8>(io.port_read(0x71, 1));
  }
  // "century year month day weekday hours minutes seconds" as the bytes read, in hex.
  std::string now() {
    std::string s;
    for (u8 reg : {0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00})
      s += fmt::format("{}{:02x}", s.empty() ? "" : " ", read(reg));
    return s;
  }
  void run(VtimeNs until) { run_until(time, until, rtc); }

  FakeTime time;
  IoBus io;
  WireRecorder irq{time};
  unsigned alarms = 0;
  Mc146818 rtc{time, irq.line(), [this] { ++alarms; }};
};

TEST_F(Mc146818Test, CalendarFollowsVirtualTime) {
  rtc.set_time_base(1709164799);  // Wed 2024-02-28 23:59:59 UTC
  EXPECT_EQ(now(), "20 24 02 28 04 23 59 59");
  time.now_ = kSecond - 1;
  EXPECT_EQ(now(), "20 24 02 28 04 23 59 59");
  time.now_ = kSecond;
  EXPECT_EQ(now(), "20 24 02 29 05 00 00 00");
  time.now_ = kSecond * (1 + 86400);
  EXPECT_EQ(now(), "20 24 03 01 06 00 00 00");
  rtc.set_time_base(946684799);
  EXPECT_EQ(now(), "19 99 12 31 06 23 59 59");
  rtc.set_time_base(-1);
  EXPECT_EQ(now(), "19 69 12 31 04 23 59 59");
}

TEST_F(Mc146818Test, BinaryAnd12Hours) {
  rtc.set_time_base(1709164799);
  write(0x0b, 0x04);
  EXPECT_EQ(now(), "14 18 02 1c 04 8b 3b 3b");  // 11 p.m.
  time.now_ = kSecond;
  EXPECT_EQ(read(4), 12);  // 12 a.m.
  time.now_ = kSecond * (1 + 12 * 3600);
  EXPECT_EQ(read(4), 0x80 | 12);
  write(0x0b, 0x00);
  EXPECT_EQ(read(4), 0x92);
}

TEST_F(Mc146818Test, SettingTheTimeAsLinuxDoes) {
  rtc.set_time_base(1709164799);
  time.now_ = kSecond * 10 + 300'000'000;
  write(0x0b, 0x82);
  write(0x0a, 0x76);  // divider in reset
  for (auto [reg, value] : {std::pair<u8, u8>{0x09, 0x31},
                            {0x08, 0x12},
                            {0x07, 0x31},
                            {0x04, 0x23},
                            {0x02, 0x59},
                            {0x00, 0x58},
                            {0x32, 0x20},
                            {0x06, 0x04}})
    write(reg, value);
  time.now_ += 5 * kSecond;
  EXPECT_EQ(now(), "20 31 12 31 04 23 59 58");
  write(0x0b, 0x02);
  write(0x0a, 0x26);
  // The first update comes half a second after the divider is released.
  time.now_ += kSecond / 2 - 1;
  EXPECT_EQ(read(0), 0x58);
  time.now_ += 1;
  EXPECT_EQ(read(0), 0x59);
  time.now_ += kSecond;
  EXPECT_EQ(now(), "20 32 01 01 05 00 00 00");
}

TEST_F(Mc146818Test, SetStopsTheClock) {
  rtc.set_time_base(0);
  write(0x0b, 0x82);
  time.now_ = 100 * kSecond;
  EXPECT_EQ(now(), "19 70 01 01 05 00 00 00");
  EXPECT_FALSE(read(0x0a) & 0x80);
  write(0x0b, 0x02);
  time.now_ += kSecond;
  EXPECT_EQ(read(0), 1);
}

TEST_F(Mc146818Test, WrittenWhileRunning) {
  rtc.set_time_base(0);
  write(0x04, 0x13);
  time.now_ = kSecond * 61;
  EXPECT_EQ(now(), "19 70 01 01 05 13 01 01");
  write(0x08, 0x99);  // no such month
  EXPECT_EQ(read(0x08), 0x12);
}

TEST_F(Mc146818Test, UpdateInProgress) {
  time.now_ = kSecond - 244'141;
  EXPECT_EQ(read(0x0a), 0x26);
  time.now_ = kSecond - 244'140;
  EXPECT_EQ(read(0x0a), 0xa6);
  time.now_ = kSecond;
  EXPECT_EQ(read(0x0a), 0x26);
}

TEST_F(Mc146818Test, UpdateInterruptEverySecond) {
  EXPECT_EQ(rtc.next_event(), kNeverNs);
  write(0x0b, 0x12);
  for (u64 k = 1; k <= 5; k++) {
    run(k * kSecond + 1000);
    ASSERT_EQ(irq.rises.size(), k);
    ASSERT_EQ(irq.rises.back(), k * kSecond);
    EXPECT_EQ(read(0x0c), 0xd0);  // PF is set too, though not enabled
    EXPECT_FALSE(irq.level());
  }
  run(8 * kSecond);
  EXPECT_EQ(rtc.next_event(), kNeverNs);  // asserted until register C is read
  EXPECT_EQ(irq.rises.size(), 6u);
}

TEST_F(Mc146818Test, PeriodicRateIsExact) {
  write(0x0b, 0x42);  // 1024 Hz
  for (u64 k = 1; k <= 5000; k++) {
    ASSERT_EQ(rtc.next_event(), (k * kSecond + 1023) / 1024);
    run(rtc.next_event());
    ASSERT_TRUE(irq.level());
    read(0x0c);
  }
  write(0x0a, 0x20);
  EXPECT_EQ(rtc.next_event(), kNeverNs);
  write(0x0a, 0x21);  // rate 1 is 256 Hz
  read(0x0c);
  const VtimeNs first = rtc.next_event();
  run(first);
  read(0x0c);
  EXPECT_EQ(rtc.next_event() - first, 3'906'250u);
}

TEST_F(Mc146818Test, Alarm) {
  rtc.set_time_base(86400 * 100);
  write(5, 0x06), write(3, 0x30), write(1, 0x15);
  write(0x0b, 0x22);
  EXPECT_EQ(rtc.next_event(), (6 * 3600 + 30 * 60 + 15) * kSecond);
  run(rtc.next_event());
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(read(0x0c) & 0xa0, 0xa0);
  EXPECT_EQ(rtc.next_event(), (86400 + 6 * 3600 + 30 * 60 + 15) * kSecond);
  write(5, 0xff), write(3, 0xc0);  // any hour, any minute
  EXPECT_EQ(rtc.next_event(), (6 * 3600 + 31 * 60 + 15) * kSecond);
  write(1, 0x60);  // never
  EXPECT_EQ(rtc.next_event(), kNeverNs);
}

TEST_F(Mc146818Test, AnEnabledAlarmIsToldOnce) {
  rtc.set_time_base(0);
  write(5, 0x00), write(3, 0x00), write(1, 0x10);
  time.now_ = 30 * kSecond;
  EXPECT_EQ(read(0x0b), 0x02);
  EXPECT_EQ(alarms, 0u) << "not enabled";
  write(0x0b, 0x22);
  EXPECT_EQ(alarms, 1u) << "enabled while its flag was set";
  read(0x0c);
  write(1, 0x40), write(0x0b, 0x32);
  run(35 * kSecond);
  EXPECT_TRUE(irq.level()) << "the update interrupt's";
  EXPECT_EQ(alarms, 1u);
  run(41 * kSecond);
  EXPECT_EQ(alarms, 2u) << "though IRQ 8 was raised before";
  write(0x0b, 0x32);
  EXPECT_EQ(alarms, 2u);
}

TEST_F(Mc146818Test, AlarmFlagIsSetWithoutInterrupt) {
  rtc.set_time_base(0);
  write(5, 0x00), write(3, 0x00), write(1, 0x10);
  read(0x0c);
  time.now_ = 9 * kSecond;
  EXPECT_EQ(read(0x0c) & 0x20, 0);
  time.now_ = 30 * kSecond;
  EXPECT_EQ(read(0x0c) & 0xa0, 0x20);
}

TEST_F(Mc146818Test, MemorySizeAndRam) {
  rtc.set_memory_size(512_MiB, 0);
  EXPECT_EQ(read(0x15), 0x80);
  EXPECT_EQ(read(0x16), 0x02);
  EXPECT_EQ(read(0x17) | read(0x18) << 8, 0xffff);
  EXPECT_EQ(read(0x34) | read(0x35) << 8, (512 - 16) * 16);
  rtc.set_memory_size(3_GiB, 5_GiB);
  EXPECT_EQ(read(0x5b) | read(0x5c) << 8 | read(0x5d) << 16, 5 * 1024 * 16);
  write(0x40, 0xab);
  EXPECT_EQ(read(0x40 | 0x80), 0xab);  // bit 7 is the NMI mask
  EXPECT_EQ(read(0x0d), 0x80);
  write(0x0b, 0x72);
  rtc.reset();
  EXPECT_EQ(read(0x0b), 0x02);
  EXPECT_EQ(read(0x40), 0xab);
}

}  // namespace
}  // namespace deja
