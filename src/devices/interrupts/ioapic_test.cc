#include "devices/interrupts/ioapic.h"

#include "devices/device_kit_for_test.h"
#include "devices/interrupts/i8259.h"
#include "devices/interrupts/local_apic.h"

namespace deja {
namespace {

constexpr u32 kLevel = 1 << 15, kRemoteIrr = 1 << 14, kMasked = 1 << 16;

class IoApicTest : public testing::Test {
 protected:
  IoApicTest() { apic.mmio_write(0xf0, 0x1ff, 4); }
  void write(u8 reg, u32 value) {
    ioapic.mmio_write(0, reg, 4);
    ioapic.mmio_write(0x10, value, 4);
  }
  u32 read(u8 reg) {
    ioapic.mmio_write(0, reg, 4);
    return static_cast<u32>(ioapic.mmio_read(0x10, 4));
  }
  void route(unsigned pin, u32 low) { write(static_cast<u8>(0x10 + 2 * pin), low); }
  u32 entry(unsigned pin) { return read(static_cast<u8>(0x10 + 2 * pin)); }
  void eoi() { apic.mmio_write(0xb0, 0, 4); }

  FakeTime time;
  InterruptBus bus;
  I8259 pic{bus};
  IoApic ioapic{bus};
  int nmis = 0;
  LocalApic apic{{0}, time, bus, {[this] { nmis++; }, [] {}, [](u8) {}, [] { return u64{0}; }}};
};

TEST_F(IoApicTest, Registers) {
  EXPECT_EQ(read(1), 0x00170020u);
  write(0, 0x0f000000);
  EXPECT_EQ(read(0), 0x0f000000u);
  EXPECT_EQ(read(2), 0x0f000000u);
  for (unsigned pin = 0; pin < 24; pin++) EXPECT_EQ(entry(pin), kMasked);
  route(5, 0xffffffff);
  EXPECT_EQ(entry(5), 0x0001afffu);  // delivery status and remote IRR are read-only
  write(0x1b, 0xffffffff);
  EXPECT_EQ(read(0x1b), 0xff000000u);
}

TEST_F(IoApicTest, EdgeIsSentOncePerRise) {
  route(4, 0x44);
  ioapic.set_pin(4, true);
  EXPECT_EQ(apic.acknowledge(), 0x44);
  ioapic.set_pin(4, true);
  eoi();
  EXPECT_FALSE(apic.pending());
  ioapic.set_pin(4, false);
  ioapic.set_pin(4, true);
  EXPECT_TRUE(apic.pending());
}

TEST_F(IoApicTest, MaskedEdgeIsLostMaskedLevelIsNot) {
  route(4, kMasked | 0x44);
  ioapic.set_pin(4, true);
  route(4, 0x44);
  EXPECT_FALSE(apic.pending());
  route(9, kMasked | kLevel | 0x49);
  ioapic.set_pin(9, true);
  EXPECT_FALSE(apic.pending());
  route(9, kLevel | 0x49);
  EXPECT_TRUE(apic.pending());
}

TEST_F(IoApicTest, LevelIsSentAgainOnEoiWhileAsserted) {
  route(9, kLevel | 0x49);
  ioapic.set_pin(9, true);
  EXPECT_TRUE(entry(9) & kRemoteIrr);
  EXPECT_EQ(apic.acknowledge(), 0x49);
  EXPECT_FALSE(apic.pending());
  eoi();
  EXPECT_EQ(apic.acknowledge(), 0x49);
  ioapic.set_pin(9, false);
  EXPECT_TRUE(entry(9) & kRemoteIrr);
  eoi();
  EXPECT_FALSE(entry(9) & kRemoteIrr);
  EXPECT_FALSE(apic.pending());
}

TEST_F(IoApicTest, EoiRegisterAndSwitchToEdgeClearRemoteIrr) {
  route(9, kLevel | 0x49);
  ioapic.set_pin(9, true);
  ioapic.set_pin(9, false);
  ioapic.mmio_write(0x40, 0x49, 4);
  EXPECT_FALSE(entry(9) & kRemoteIrr);
  ioapic.set_pin(9, true);
  EXPECT_TRUE(entry(9) & kRemoteIrr);
  route(9, kMasked | 0x49);
  route(9, kMasked | kLevel | 0x49);
  EXPECT_FALSE(entry(9) & kRemoteIrr);
}

TEST_F(IoApicTest, NobodyListening) {
  apic.mmio_write(0xf0, 0xff, 4);
  route(9, kLevel | 0x49);
  ioapic.set_pin(9, true);
  EXPECT_FALSE(entry(9) & kRemoteIrr);
}

TEST_F(IoApicTest, IsaInterruptsReachBothControllers) {
  route(2, 0x30);
  const IrqLine timer = bus.isa_irq(0);
  timer(true);
  EXPECT_EQ(apic.acknowledge(), 0x30);
  EXPECT_EQ(pic.state().chip[0].irr, 1);
  EXPECT_EQ(ioapic.state().asserted & ~1u, 4u);  // pin 0 is the 8259
}

TEST_F(IoApicTest, NmiAndExtIntPins) {
  route(3, 0x400);
  ioapic.set_pin(3, true);
  EXPECT_EQ(nmis, 1);
  IoBus io;
  pic.attach(io);
  for (auto [port, value] : {std::pair{0x20, 0x11}, {0x21, 0x30}, {0x21, 4}, {0x21, 1}})
    io.port_write(static_cast<u16>(port), static_cast<u32>(value), 1);
  route(0, 0x700);  // virtual wire mode through the I/O APIC
  pic.set_irq(1, true);
  EXPECT_EQ(apic.acknowledge(), 0x31);
  EXPECT_FALSE(apic.pending());
  io.port_write(0x20, 0x20, 1);
  pic.set_irq(5, true);
  pic.set_irq(6, true);
  EXPECT_EQ(apic.acknowledge(), 0x35);
  EXPECT_FALSE(apic.pending());  // below what is in service
  io.port_write(0x20, 0x20, 1);
  EXPECT_EQ(apic.acknowledge(), 0x36);
}

}  // namespace
}  // namespace deja
