#include "devices/interrupts/local_apic.h"

#include "devices/device_kit_for_test.h"
#include "devices/interrupts/i8259.h"
#include "devices/interrupts/ioapic.h"

namespace deja {
namespace {

// Offsets in the register page.
constexpr u64 kId = 0x20, kVersion = 0x30, kTpr = 0x80, kPpr = 0xa0, kEoi = 0xb0, kLdr = 0xd0, kDfr = 0xe0,
              kSvr = 0xf0, kIsr = 0x100, kIrr = 0x200, kEsr = 0x280, kIcrLow = 0x300, kIcrHigh = 0x310,
              kLvtTimer = 0x320, kLvtLint0 = 0x350, kLvtLint1 = 0x360, kLvtError = 0x370, kInitial = 0x380,
              kCurrent = 0x390, kDivide = 0x3e0;
constexpr u32 kDivideBy1 = 0xb;
constexpr u32 kPeriodic = 1 << 17, kTscDeadline = 2 << 17, kMasked = 1 << 16;

struct Cpu {
  int nmis = 0, inits = 0;
  std::vector<u8> startups;
  u64 tsc_adjust = 0;
  LocalApicSignals signals() {
    return {[this] { nmis++; }, [this] { inits++; }, [this](u8 v) { startups.push_back(v); },
            [this] { return tsc_adjust; }};
  }
};

class LocalApicTest : public testing::Test {
 protected:
  LocalApicTest() {
    for (LocalApic* a : apics()) write(*a, kSvr, 0x1ff);
  }
  std::array<LocalApic*, 3> apics() { return {&apic0, &apic1, &apic2}; }
  static void write(LocalApic& a, u64 offset, u32 value) { a.mmio_write(offset, value, 4); }
  static u32 read(LocalApic& a, u64 offset) { return static_cast<u32>(a.mmio_read(offset, 4)); }
  void write(u64 offset, u32 value) { write(apic0, offset, value); }
  u32 read(u64 offset) { return read(apic0, offset); }
  void x2apic(LocalApic& a) { a.write_apic_base(a.apic_base() | kApicBaseExtended); }
  void fixed(LocalApic& a, u8 vector) { a.receive({DeliveryMode::fixed, vector}); }
  void run(VtimeNs until) { run_until(time, until, apic0, apic1, apic2); }

  FakeTime time;
  InterruptBus bus;
  I8259 pic{bus};
  IoApic ioapic{bus};
  Cpu cpu0, cpu1, cpu2;
  LocalApic apic0{{0}, time, bus, cpu0.signals()};
  LocalApic apic1{{1}, time, bus, cpu1.signals()};
  LocalApic apic2{{2}, time, bus, cpu2.signals()};
};

TEST_F(LocalApicTest, ResetState) {
  apic1.reset();
  EXPECT_EQ(apic0.apic_base(), 0xfee00900u);
  EXPECT_EQ(apic1.apic_base(), 0xfee00800u);
  EXPECT_EQ(read(apic1, kId), 1u << 24);
  EXPECT_EQ(read(apic1, kVersion), 0x00050014u);
  EXPECT_EQ(read(apic1, kSvr), 0xffu);
  EXPECT_EQ(read(apic1, kDfr), 0xffffffffu);
  for (u64 lvt = kLvtTimer; lvt <= kLvtError; lvt += 0x10) EXPECT_EQ(read(apic1, lvt), kMasked);
  EXPECT_TRUE(apic0.claims(Gpa(0xfee00fff)));
  EXPECT_FALSE(apic0.claims(Gpa(0xfee01000)));
}

TEST_F(LocalApicTest, PrioritiesAndNesting) {
  fixed(apic0, 0x45);
  fixed(apic0, 0x62);
  ASSERT_TRUE(apic0.pending());
  EXPECT_EQ(apic0.acknowledge(), 0x62);
  EXPECT_EQ(read(kPpr), 0x60u);
  EXPECT_FALSE(apic0.pending());  // 45h is below the class in service
  fixed(apic0, 0x6f);
  EXPECT_FALSE(apic0.pending());  // the same class
  fixed(apic0, 0x70);
  EXPECT_EQ(apic0.acknowledge(), 0x70);
  write(kEoi, 0);
  EXPECT_EQ(apic0.acknowledge(), -1);
  write(kEoi, 0);
  EXPECT_EQ(apic0.acknowledge(), 0x6f);
  write(kEoi, 0);
  EXPECT_EQ(apic0.acknowledge(), 0x45);
  write(kEoi, 0);
  EXPECT_EQ(read(kPpr), 0u);
}

TEST_F(LocalApicTest, TprAndCr8) {
  apic0.write_cr8(4);
  EXPECT_EQ(read(kTpr), 0x40u);
  fixed(apic0, 0x4f);
  EXPECT_FALSE(apic0.pending());
  write(kTpr, 0x3f);
  EXPECT_EQ(apic0.read_cr8(), 3u);
  EXPECT_TRUE(apic0.pending());
  EXPECT_EQ(read(kIrr + 0x20), 1u << 15);
  EXPECT_EQ(apic0.acknowledge(), 0x4f);
  EXPECT_EQ(read(kIsr + 0x20), 1u << 15);
  EXPECT_EQ(read(kIrr + 0x20), 0u);
}

TEST_F(LocalApicTest, OneShotTimerFiresAtItsExactNanosecond) {
  write(kLvtTimer, 0x40);
  write(kDivide, 0x3);  // by 16: 640 ns a count at 25 MHz
  time.now_ = 1000;
  write(kInitial, 100);
  EXPECT_EQ(apic0.next_event(), 1000u + 64'000);
  time.now_ = 1000 + 639;
  EXPECT_EQ(read(kCurrent), 100u);
  time.now_ = 1000 + 640;
  EXPECT_EQ(read(kCurrent), 99u);
  run(1000 + 63'999);
  EXPECT_FALSE(apic0.pending());
  EXPECT_EQ(read(kCurrent), 1u);
  run(1000 + 64'000);
  EXPECT_EQ(apic0.acknowledge(), 0x40);
  EXPECT_EQ(read(kCurrent), 0u);
  EXPECT_EQ(apic0.next_event(), kNeverNs);
}

TEST_F(LocalApicTest, DivideConfiguration) {
  constexpr u32 kCodes[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};
  write(kLvtTimer, 0x40);
  for (unsigned i = 0; i < 8; i++) {
    write(kDivide, kCodes[i]);
    write(kInitial, 1000);
    EXPECT_EQ(apic0.next_event(), 1000 * (40u << i)) << i;
  }
}

TEST_F(LocalApicTest, PeriodicTimerDoesNotDrift) {
  FakeTime t;
  InterruptBus b;
  // 19.2 MHz: a period of 7 counts is 364.58333 ns.
  LocalApic a({0, 1'000'000'000, 19'200'000}, t, b, cpu0.signals());
  write(a, kSvr, 0x1ff);
  write(a, kDivide, kDivideBy1);
  write(a, kLvtTimer, kPeriodic | 0x40);
  write(a, kInitial, 7);
  for (u64 k = 1; k <= 100'000; k++) {
    ASSERT_EQ(a.next_event(), (k * 7 * 1'000'000'000 + 19'199'999) / 19'200'000);
    t.now_ = a.next_event();
    a.advance(t.now_);
    ASSERT_EQ(read(a, kCurrent), 7u);
  }
  EXPECT_EQ(t.now_, 36'458'334u);
}

TEST_F(LocalApicTest, MaskedPeriodicTimerCountsWithoutEvents) {
  write(kDivide, kDivideBy1);
  write(kLvtTimer, kPeriodic | kMasked | 0x40);
  write(kInitial, 1000);  // 40 us
  EXPECT_EQ(apic0.next_event(), kNeverNs);
  time.now_ = 90'000;
  EXPECT_EQ(read(kCurrent), 750u);
  write(kLvtTimer, kPeriodic | 0x40);
  EXPECT_FALSE(apic0.pending());
  EXPECT_EQ(apic0.next_event(), 120'000u);
}

TEST_F(LocalApicTest, TscDeadline) {
  u64 v = 1;
  EXPECT_TRUE(apic0.msr_write(0x6e0, 5000));  // ignored in the other modes
  EXPECT_TRUE(apic0.msr_read(0x6e0, &v));
  EXPECT_EQ(v, 0u);
  write(kLvtTimer, kTscDeadline | 0x40);
  write(kInitial, 100);  // ignored
  EXPECT_EQ(read(kCurrent), 0u);
  time.now_ = 200;
  apic0.msr_write(0x6e0, 5000);
  EXPECT_EQ(apic0.next_event(), 5000u);
  // IA32_TSC_ADJUST moves the TSC, not the deadline.
  cpu0.tsc_adjust = 1000;
  EXPECT_EQ(apic0.next_event(), 4000u);
  cpu0.tsc_adjust = ~u64{0} - 99;  // -100
  EXPECT_EQ(apic0.next_event(), 5100u);
  run(5099);
  EXPECT_FALSE(apic0.pending());
  run(5100);
  EXPECT_EQ(apic0.acknowledge(), 0x40);
  apic0.msr_read(0x6e0, &v);
  EXPECT_EQ(v, 0u);
  write(kEoi, 0);
  apic0.msr_write(0x6e0, 17);  // long past
  EXPECT_EQ(apic0.acknowledge(), 0x40);
  write(kEoi, 0);
  apic0.msr_write(0x6e0, 9000);
  write(kLvtTimer, 0x40);  // leaving the mode disarms
  EXPECT_EQ(apic0.next_event(), kNeverNs);
}

TEST_F(LocalApicTest, TscDeadlineAroundTheWrapOfTheTsc) {
  write(kLvtTimer, kTscDeadline | 0x40);
  time.now_ = 1000;
  cpu0.tsc_adjust = u64{0xc} << 60;
  apic0.msr_write(0x6e0, cpu0.tsc_adjust + 1500);
  EXPECT_EQ(apic0.next_event(), 1500u);
  cpu0.tsc_adjust = ~u64{0} - 899;  // -900: the TSC is 100
  apic0.msr_write(0x6e0, ~u64{0});
  EXPECT_EQ(apic0.next_event(), kNeverNs);
  apic0.msr_write(0x6e0, 101);
  EXPECT_EQ(apic0.next_event(), 1001u);
}

// The time of the event is known from the saved state alone, whatever the clock says while it is restored.
TEST_F(LocalApicTest, TscDeadlineIsRestoredBeforeTheClock) {
  write(kLvtTimer, kTscDeadline | 0x40);
  apic0.msr_write(0x6e0, 5000);
  const auto bytes = saved_bytes(apic0);
  time.now_ = 1'000'000;
  StateReader r(bytes);
  ASSERT_TRUE(apic0.restore(r));
  EXPECT_EQ(apic0.next_event(), 5000u);
}

TEST_F(LocalApicTest, TscDeadlineRoundsUpToTheNanosecond) {
  FakeTime t;
  InterruptBus b;
  LocalApic a({0, 3'000'000'000, 25'000'000}, t, b, cpu0.signals());
  write(a, kSvr, 0x1ff);
  write(a, kLvtTimer, kTscDeadline | 0x40);
  for (u64 deadline : {1u, 2u, 3u, 4u, 3'000'000'001u}) {
    a.msr_write(0x6e0, deadline);
    EXPECT_EQ(a.next_event(), (deadline + 2) / 3);
  }
  a.msr_write(0x6e0, ~u64{0});
  EXPECT_EQ(a.next_event(), u64{6148914691236517205});  // 2^64 / 3
  a.msr_write(0x6e0, 0);
  EXPECT_EQ(a.next_event(), kNeverNs);
}

TEST_F(LocalApicTest, PhysicalIpis) {
  write(kIcrHigh, 1u << 24);
  write(kIcrLow, 0x55);
  EXPECT_EQ(apic1.acknowledge(), 0x55);
  EXPECT_FALSE(apic0.pending() || apic2.pending());
  write(kIcrHigh, 0xffu << 24);
  write(kIcrLow, 0x66);
  for (LocalApic* a : apics()) EXPECT_EQ(a->acknowledge(), 0x66);
}

TEST_F(LocalApicTest, Shorthands) {
  write(kIcrLow, 1 << 18 | 0x50);
  EXPECT_TRUE(apic0.pending() && !apic1.pending() && !apic2.pending());
  apic0.acknowledge();
  write(kIcrLow, 3 << 18 | 0x60);
  EXPECT_TRUE(!apic0.pending() && apic1.pending() && apic2.pending());
  write(kIcrLow, 2 << 18 | 0x70);
  EXPECT_EQ(apic0.acknowledge(), 0x70);
  write(kIcrLow, 3 << 18 | 4 << 8);  // NMI
  EXPECT_EQ(cpu0.nmis, 0);
  EXPECT_EQ(cpu1.nmis, 1);
  EXPECT_EQ(cpu2.nmis, 1);
}

TEST_F(LocalApicTest, InitAndStartup) {
  fixed(apic1, 0x44);
  write(kIcrHigh, 1u << 24);
  write(kIcrLow, 0x0000c500);  // INIT, level, assert
  EXPECT_EQ(cpu1.inits, 1);
  EXPECT_EQ(read(apic1, kSvr), 0xffu);
  EXPECT_FALSE(apic1.pending());
  write(kIcrLow, 0x00008500);  // de-assert: nothing
  EXPECT_EQ(cpu1.inits, 1);
  write(kIcrLow, 0x0000069a);
  EXPECT_EQ(cpu1.startups, std::vector<u8>{0x9a});
  EXPECT_EQ(cpu0.inits + cpu2.inits, 0);
}

TEST_F(LocalApicTest, LogicalFlatAndCluster) {
  for (unsigned i = 0; i < 3; i++) write(*apics()[i], kLdr, 1u << (24 + i));
  bus.send({DeliveryMode::fixed, 0x50, false, true, false, 0x6});
  EXPECT_TRUE(!apic0.pending() && apic1.pending() && apic2.pending());
  for (LocalApic* a : apics()) a->acknowledge(), write(*a, kEoi, 0), write(*a, kDfr, 0x0fffffff);
  write(apic0, kLdr, 0x11u << 24);
  write(apic1, kLdr, 0x21u << 24);
  write(apic2, kLdr, 0x22u << 24);
  bus.send({DeliveryMode::fixed, 0x51, false, true, false, 0x21});
  EXPECT_TRUE(!apic0.pending() && apic1.pending() && !apic2.pending());
  bus.send({DeliveryMode::fixed, 0x61, false, true, false, 0xf1});  // member 1 of all clusters
  EXPECT_TRUE(apic0.pending() && apic1.pending() && !apic2.pending());
}

TEST_F(LocalApicTest, LowestPriority) {
  write(apic0, kTpr, 0x30);
  write(apic1, kTpr, 0x20);
  write(apic2, kTpr, 0x20);
  bus.send({DeliveryMode::lowest_priority, 0x50, false, false, false, 0xff});
  EXPECT_TRUE(!apic0.pending() && apic1.pending() && !apic2.pending());
  bus.send({DeliveryMode::lowest_priority, 0x51, false, false, false, 0xff});
  EXPECT_TRUE(!apic0.pending() && apic2.pending());  // 50h waiting makes apic1 busier
  write(apic0, kSvr, 0xff);
  write(apic1, kSvr, 0xff);
  write(apic2, kSvr, 0xff);
  EXPECT_FALSE(bus.send({DeliveryMode::lowest_priority, 0x52, false, false, false, 0xff}));
}

TEST_F(LocalApicTest, X2ApicRegistersAndReservedBits) {
  u64 v;
  EXPECT_FALSE(apic1.msr_read(0x802, &v));  // not in xAPIC mode
  x2apic(apic1);
  ASSERT_TRUE(apic1.msr_read(0x802, &v));
  EXPECT_EQ(v, 1u);
  ASSERT_TRUE(apic1.msr_read(0x80d, &v));
  EXPECT_EQ(v, 2u);
  EXPECT_FALSE(apic1.claims(Gpa(0xfee00000)));
  EXPECT_TRUE(apic1.msr_write(0x808, 0x20));
  EXPECT_FALSE(apic1.msr_write(0x808, 0x120));
  EXPECT_FALSE(apic1.msr_write(0x80b, 1));
  EXPECT_TRUE(apic1.msr_write(0x80b, 0));
  EXPECT_FALSE(apic1.msr_write(0x802, 0));  // ID
  EXPECT_FALSE(apic1.msr_write(0x839, 0));  // current count
  EXPECT_FALSE(apic1.msr_read(0x80b, &v));  // EOI
  EXPECT_FALSE(apic1.msr_read(0x80e, &v));  // DFR does not exist
  EXPECT_FALSE(apic1.msr_read(0x831, &v));
  EXPECT_FALSE(apic1.msr_read(0x83f, &v));
  EXPECT_FALSE(apic1.msr_write(0x828, 1));
  EXPECT_FALSE(apic1.msr_write(0x832, 1 << 19));
  EXPECT_FALSE(apic1.msr_write(0x838, u64{1} << 32));
  EXPECT_TRUE(apic1.msr_write(0x83f, 0x77));
  EXPECT_EQ(apic1.acknowledge(), 0x77);
}

TEST_F(LocalApicTest, X2ApicIpis) {
  LocalApic apic17({17}, time, bus, cpu0.signals());
  write(apic17, kSvr, 0x1ff);
  for (LocalApic* a : apics()) x2apic(*a);
  x2apic(apic17);
  EXPECT_TRUE(apic0.msr_write(0x830, u64{17} << 32 | 0x50));
  EXPECT_EQ(apic17.acknowledge(), 0x50);
  EXPECT_TRUE(apic0.msr_write(0x830, u64{0x10002} << 32 | 1 << 11 | 0x60));  // cluster 1, member 1
  EXPECT_EQ(apic17.acknowledge(), 0x60);
  EXPECT_TRUE(apic0.msr_write(0x830, u64{0x6} << 32 | 1 << 11 | 0x70));
  EXPECT_TRUE(!apic0.pending() && apic1.pending() && apic2.pending() && !apic17.pending());
  EXPECT_TRUE(apic0.msr_write(0x830, u64{0xffffffff} << 32 | 0x80));
  EXPECT_TRUE(apic0.pending() && apic17.pending());
}

TEST_F(LocalApicTest, Errors) {
  write(kLvtError, 0xfe);
  write(kIcrLow, 1 << 18 | 0x0f);
  EXPECT_EQ(read(kEsr), 0u);  // latched by a write
  EXPECT_EQ(apic0.acknowledge(), 0xfe);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0x20u);
  fixed(apic0, 0x05);
  read(0x010);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0xc0u);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0u);
}

TEST_F(LocalApicTest, SoftwareDisableMasksAndRefuses) {
  write(kLvtTimer, 0x40);
  write(kInitial, 10);
  write(kSvr, 0xff);
  EXPECT_TRUE(read(kLvtTimer) & kMasked);
  EXPECT_EQ(apic0.next_event(), kNeverNs);
  write(kLvtTimer, 0x40);
  EXPECT_TRUE(read(kLvtTimer) & kMasked);  // cannot be cleared now
  EXPECT_FALSE(apic0.receive({DeliveryMode::fixed, 0x50}));
  EXPECT_TRUE(apic0.receive({DeliveryMode::nmi}));
  EXPECT_EQ(cpu0.nmis, 1);
}

TEST_F(LocalApicTest, VirtualWireAndDisabledApicTake8259Interrupts) {
  pic.reset();
  IoBus io;
  pic.attach(io);
  for (auto [port, value] : {std::pair{0x20, 0x11}, {0x21, 0x30}, {0x21, 4}, {0x21, 1}})
    io.port_write(static_cast<u16>(port), static_cast<u32>(value), 1);
  pic.set_irq(4, true);
  EXPECT_FALSE(apic0.pending());  // LINT0 is masked
  apic0.enter_virtual_wire_mode();
  ASSERT_TRUE(apic0.pending());
  EXPECT_EQ(apic0.acknowledge(), 0x34);
  EXPECT_FALSE(apic0.pending());
  io.port_write(0x20, 0x20, 1);
  pic.set_irq(4, false);
  apic0.write_apic_base(kApicDefaultBase | kApicBaseBsp);  // off: LINT0 is INTR
  pic.set_irq(4, true);
  EXPECT_EQ(apic0.acknowledge(), 0x34);
  EXPECT_EQ(cpu0.nmis, 0);
  bus.pulse_nmi();
  EXPECT_EQ(cpu0.nmis, 1);
}

TEST_F(LocalApicTest, NmiButtonGoesThroughLint1) {
  bus.pulse_nmi();
  EXPECT_EQ(cpu0.nmis, 0);
  write(kLvtLint1, 0x400);
  bus.pulse_nmi();
  EXPECT_EQ(cpu0.nmis, 1);
  EXPECT_EQ(cpu1.nmis, 0);
}

TEST_F(LocalApicTest, LevelLint0IsSentAgainAfterEoi) {
  write(kLvtLint0, 1 << 15 | 0x48);
  apic0.set_lint0(true);
  EXPECT_EQ(apic0.acknowledge(), 0x48);
  EXPECT_TRUE(read(kLvtLint0) & 1 << 14);
  EXPECT_FALSE(apic0.pending());
  write(kEoi, 0);
  EXPECT_EQ(apic0.acknowledge(), 0x48);
  apic0.set_lint0(false);
  write(kEoi, 0);
  EXPECT_FALSE(apic0.pending());
}

}  // namespace
}  // namespace deja
