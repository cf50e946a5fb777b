#include "devices/uart16550.h"

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

constexpr u16 kBase = 0x3f8;
enum : u16 { kRbr = kBase, kIer, kIir, kLcr, kMcr, kLsr, kMsr, kScr };

class Uart16550Test : public testing::Test {
 protected:
  Uart16550Test() {
    uart.attach(io);
    out(kLcr, 0x83), out(kRbr, 1), out(kIer, 0), out(kLcr, 0x03);  // 115200 8N1
    out(kMcr, 0x0b);
  }
  void out(u16 port, u8 value) { io.port_write(port, value, 1); }
  u8 in(u16 port) { return static_cast<u8>(io.port_read(port, 1)); }
  void receive(std::string_view s) {
    for (char c : s) uart.receive(static_cast<u8>(c));
  }

  FakeTime time;
  IoBus io;
  WireRecorder irq{time};
  std::string sent;
  Uart16550 uart{"uart0", kBase, time, irq.line(), [this](u8 b) { sent += static_cast<char>(b); }};
};

TEST_F(Uart16550Test, TransmitsAtOnce) {
  for (char c : std::string_view("hello")) {
    EXPECT_EQ(in(kLsr), 0x60);
    out(kRbr, static_cast<u8>(c));
  }
  EXPECT_EQ(sent, "hello");
  EXPECT_FALSE(irq.level());
}

TEST_F(Uart16550Test, DivisorAndScratch) {
  out(kLcr, 0x83);
  EXPECT_EQ(in(kRbr), 1);
  out(kIer, 0x12);
  EXPECT_EQ(in(kIer), 0x12);
  out(kLcr, 0x03);
  EXPECT_EQ(in(kIer), 0);
  out(kScr, 0x5a);
  EXPECT_EQ(in(kScr), 0x5a);
}

TEST_F(Uart16550Test, FifoDetection) {
  EXPECT_EQ(in(kIir), 0x01);
  out(kIir, 0xc1);
  EXPECT_EQ(in(kIir), 0xc1);
  out(kIir, 0x00);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(Uart16550Test, ThrEmptyInterrupt) {
  out(kIer, 2);  // enabling it with an empty transmitter raises it
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_FALSE(irq.level());  // reading IIR cleared it
  EXPECT_EQ(in(kIir), 0x01);
  out(kRbr, 'x');
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_FALSE(irq.level());
  out(kIer, 0), out(kIer, 2);  // Linux's test for the 16550 that forgets it
  EXPECT_EQ(in(kIir), 0x02);
}

TEST_F(Uart16550Test, ReceiveWithoutFifo) {
  out(kIer, 1);
  EXPECT_EQ(uart.room(), 1u);
  receive("a");
  EXPECT_EQ(uart.room(), 0u);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kIir), 0x04);
  EXPECT_EQ(in(kLsr), 0x61);
  receive("b");  // overrun
  EXPECT_EQ(in(kLsr), 0x63);
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kRbr), 'b');
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Uart16550Test, TriggerLevelAndOverrun) {
  out(kIir, 0x81);  // 8 bytes
  out(kIer, 5);
  receive("1234567");
  EXPECT_FALSE(irq.level());
  receive("8");
  EXPECT_EQ(in(kIir), 0xc4);
  EXPECT_EQ(in(kRbr), '1');
  EXPECT_FALSE(irq.level());
  receive("abcdefghi");
  EXPECT_EQ(uart.room(), 0u);
  receive("!");
  EXPECT_EQ(in(kIir), 0xc6);
  EXPECT_EQ(in(kLsr)&0x03, 0x03);
  std::string got;
  while (in(kLsr)&1) got += static_cast<char>(in(kRbr));
  EXPECT_EQ(got, "2345678abcdefghi");
}

TEST_F(Uart16550Test, CharacterTimeout) {
  out(kIir, 0x81);
  out(kIer, 1);
  time.now_ = 1000;
  receive("x");
  // 4 characters of 10 bits at 115200 baud
  const VtimeNs expected = 1000 + 4 * ((10 * kNsPerSecond + 115'199) / 115'200);
  EXPECT_EQ(uart.next_event(), expected);
  run_until(time, expected - 1, uart);
  EXPECT_FALSE(irq.level());
  run_until(time, expected, uart);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kIir), 0xcc);
  EXPECT_EQ(in(kRbr), 'x');
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(uart.next_event(), kNeverNs);
  receive("yz");
  time.now_ += 1000;
  in(kRbr);  // each read starts it again
  EXPECT_EQ(uart.next_event(), time.now_ + expected - 1000);
}

TEST_F(Uart16550Test, Break) {
  out(kIir, 0xc1);
  out(kIer, 5);
  receive("a");
  uart.receive_break();
  receive("b");
  EXPECT_EQ(in(kLsr), 0xe1);  // an error further down the FIFO
  EXPECT_EQ(in(kRbr), 'a');
  EXPECT_EQ(in(kIir), 0xc6);
  EXPECT_EQ(in(kLsr), 0xf9);  // break and framing error, at the head now
  EXPECT_EQ(in(kRbr), 0);
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kRbr), 'b');
}

TEST_F(Uart16550Test, Loopback) {
  out(kMcr, 0x1f);
  EXPECT_EQ(in(kMsr)&0xf0, 0xf0);
  out(kMcr, 0x1a);  // RTS and OUT2, as Linux probes
  EXPECT_EQ(in(kMsr)&0xf0, 0x90);
  out(kRbr, 'q');
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(in(kRbr), 'q');
  EXPECT_EQ(uart.room(), 0u);
  receive("z");
  EXPECT_EQ(in(kLsr)&1, 0);
}

TEST_F(Uart16550Test, ModemStatus) {
  EXPECT_EQ(in(kMsr), 0xb0);
  out(kIer, 8);
  out(kMcr, 0x10);
  out(kMcr, 0x0b);
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kIir), 0x00);
  EXPECT_EQ(in(kMsr), 0xbb);
  EXPECT_FALSE(irq.level());
}

TEST_F(Uart16550Test, Out2GatesTheInterrupt) {
  out(kMcr, 0x03);
  out(kIer, 2);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(uart.state().irq, false);
  out(kMcr, 0x0b);
  EXPECT_TRUE(irq.level());
}

TEST_F(Uart16550Test, ResetDropsTheLine) {
  out(kIer, 2);
  ASSERT_TRUE(irq.level());
  uart.reset();
  EXPECT_FALSE(irq.level());
}

}  // namespace
}  // namespace deja
