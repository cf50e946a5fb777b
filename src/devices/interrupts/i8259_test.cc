#include "devices/interrupts/i8259.h"

#include "devices/device_kit_for_test.h"
#include "devices/interrupts/ioapic.h"
#include "devices/interrupts/local_apic.h"

namespace deja {
namespace {

class I8259Test : public testing::Test {
 protected:
  I8259Test() {
    pic.attach(io);
    init(0x01, 0x01);
  }
  void init(u8 master_icw4, u8 slave_icw4, u8 icw1 = 0x11) {
    for (auto [port, value] : {std::pair<u16, u8>{0x20, icw1},
                               {0x21, 0x20},
                               {0x21, 0x04},
                               {0x21, master_icw4},
                               {0xa0, icw1},
                               {0xa1, 0x28},
                               {0xa1, 0x02},
                               {0xa1, slave_icw4}})
      out(port, value);
  }
  void out(u16 port, u8 value) { io.port_write(port, value, 1); }
  u8 in(u16 port) { return static_cast<u8>(io.port_read(port, 1)); }
  void edge(unsigned irq) { pic.set_irq(irq, true), pic.set_irq(irq, false); }
  bool intr() const { return pic.state().intr; }

  InterruptBus bus;
  IoBus io;
  I8259 pic{bus};
};

TEST_F(I8259Test, FixedPriorityAndNesting) {
  edge(5);
  edge(3);
  EXPECT_TRUE(intr());
  EXPECT_EQ(pic.acknowledge(), 0x23);
  EXPECT_FALSE(intr());  // 5 is below 3
  edge(1);
  EXPECT_EQ(pic.acknowledge(), 0x21);
  out(0x20, 0x20);
  EXPECT_FALSE(intr());
  out(0x20, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x25);
  out(0x20, 0x65);  // specific EOI
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0);
}

TEST_F(I8259Test, SlaveGoesThroughInput2) {
  edge(12);
  edge(8);
  EXPECT_EQ(pic.acknowledge(), 0x28);
  out(0x20, 0x0b), out(0xa0, 0x0b);
  EXPECT_EQ(in(0x20), 0x04);
  EXPECT_EQ(in(0xa0), 0x01);
  out(0xa0, 0x20), out(0x20, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x2c);
}

TEST_F(I8259Test, MaskAndRegisters) {
  out(0x21, 0x10);
  EXPECT_EQ(in(0x21), 0x10);
  edge(4);
  EXPECT_FALSE(intr());
  out(0x20, 0x0a);
  EXPECT_EQ(in(0x20), 0x10);
  out(0x21, 0);
  EXPECT_TRUE(intr());
}

TEST_F(I8259Test, Spurious) {
  EXPECT_EQ(pic.acknowledge(), 0x27);
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0);  // nothing in service
  // A level request of the slave that goes away is seen by neither chip any more.
  out(0x4d1, 0x08);
  pic.set_irq(11, true);
  EXPECT_TRUE(intr());
  pic.set_irq(11, false);
  EXPECT_FALSE(intr());
}

TEST_F(I8259Test, AutoEoiAndRotation) {
  init(0x03, 0x01);
  edge(1), edge(2 + 1);
  EXPECT_EQ(pic.acknowledge(), 0x21);
  EXPECT_EQ(pic.acknowledge(), 0x23);  // nothing stays in service
  out(0x20, 0x80);                     // rotate in automatic EOI mode
  edge(1);
  EXPECT_EQ(pic.acknowledge(), 0x21);  // 1 is the lowest now
  edge(1), edge(7);
  EXPECT_EQ(pic.acknowledge(), 0x27);
  EXPECT_EQ(pic.acknowledge(), 0x21);
}

TEST_F(I8259Test, RotateOnEoiAndSetPriority) {
  edge(3);
  pic.acknowledge();
  out(0x20, 0xa0);  // rotate on non-specific EOI: 3 becomes the lowest
  edge(3), edge(6);
  EXPECT_EQ(pic.acknowledge(), 0x26);
  out(0x20, 0xe6);  // rotate on specific EOI
  out(0x20, 0xc5);  // set priority: 5 lowest, 6 highest
  edge(6);
  EXPECT_EQ(pic.acknowledge(), 0x26);
}

TEST_F(I8259Test, SpecialMaskMode) {
  edge(3);
  pic.acknowledge();
  edge(5);
  EXPECT_FALSE(intr());
  out(0x21, 0x08);
  EXPECT_FALSE(intr());
  out(0x20, 0x68);  // special mask: what is masked does not block
  EXPECT_TRUE(intr());
  out(0x20, 0x48);
  EXPECT_FALSE(intr());
}

TEST_F(I8259Test, Poll) {
  edge(6);
  out(0x20, 0x0c);
  EXPECT_EQ(in(0x20), 0x86);
  out(0x20, 0x0c);
  EXPECT_EQ(in(0x20), 0x00);
  EXPECT_FALSE(intr());
}

TEST_F(I8259Test, SpecialFullyNested) {
  edge(12);
  pic.acknowledge();
  edge(8);
  EXPECT_FALSE(intr());  // the master has input 2 in service
  init(0x11, 0x01);
  edge(12);
  EXPECT_EQ(pic.acknowledge(), 0x2c);
  edge(8);
  EXPECT_EQ(pic.acknowledge(), 0x28);
}

TEST_F(I8259Test, LevelTriggeredStaysUntilTheLineDrops) {
  out(0x4d0, 0xff), out(0x4d1, 0xff);
  EXPECT_EQ(in(0x4d0), 0xf8);
  EXPECT_EQ(in(0x4d1), 0xde);
  pic.set_irq(9, true);
  EXPECT_EQ(pic.acknowledge(), 0x29);
  out(0xa0, 0x20), out(0x20, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x29);
  pic.set_irq(9, false);
  out(0xa0, 0x20), out(0x20, 0x20);
  EXPECT_FALSE(intr());
}

TEST_F(I8259Test, InitNeedsANewEdge) {
  pic.set_irq(4, true);
  init(0x01, 0x01);
  EXPECT_FALSE(intr());
  pic.set_irq(4, true);
  EXPECT_FALSE(intr());
  pic.set_irq(4, false);
  pic.set_irq(4, true);
  EXPECT_TRUE(intr());
}

}  // namespace
}  // namespace deja
