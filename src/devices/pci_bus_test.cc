#include "devices/pci_bus.h"

#include "devices/debug_exit.h"
#include "devices/device_kit.h"
#include "devices/reset_control.h"

namespace deja {
namespace {

struct Nic : PciFunction {
  Nic() : PciFunction("nic", {0x1af4, 0x1041, 0x020000, 1, 0x1af4, 0x1100}) {
    add_bar(0, BarKind::io, 32);
    add_bar(1, BarKind::memory32, 4096);
    add_bar(4, BarKind::memory64_prefetchable, 16384);
  }
  void bar_changed(unsigned bar) override { moves.push_back({bar, bar_address(bar)}); }
  std::vector<std::pair<unsigned, u64>> moves;
};

class PciTest : public testing::Test {
 protected:
  PciTest() {
    control.attach(io), host.attach(io);
    host.add(0, 0, &bridge), host.add(3, 0, &nic);
  }
  void select(unsigned slot, unsigned offset) {
    io.port_write(0xcf8, 0x80000000 | slot << 11 | (offset & 0xfc), 4);
  }
  u32 read(unsigned slot, unsigned offset, unsigned size) {
    select(slot, offset);
    return io.port_read(static_cast<u16>(0xcfc + (offset & 3)), size);
  }
  void write(unsigned slot, unsigned offset, u32 value, unsigned size) {
    select(slot, offset);
    io.port_write(static_cast<u16>(0xcfc + (offset & 3)), value, size);
  }

  IoBus io;
  int resets = 0;
  ResetControl control{[this] { resets++; }};
  PciHost host{control};
  PciHostBridge bridge;
  Nic nic;
};

TEST_F(PciTest, FindsFunctions) {
  EXPECT_EQ(read(0, 0, 4), 0x12378086u);
  EXPECT_EQ(read(0, 0x0a, 2), 0x0600u);
  EXPECT_EQ(read(3, 2, 2), 0x1041u);
  EXPECT_EQ(read(1, 0, 4), 0xffffffffu);
  EXPECT_EQ(io.port_read(0xcf8, 4), 0x80000800u);
  io.port_write(0xcf8, 0x00000000, 4);  // not enabled
  EXPECT_EQ(io.port_read(0xcfc, 4), 0xffffffffu);
  io.port_write(0xcf8, 0x80010000, 4);  // bus 1
  EXPECT_EQ(io.port_read(0xcfc, 4), 0xffffffffu);
}

TEST_F(PciTest, BarSizesAndMapping) {
  for (unsigned bar = 0; bar < 6; bar++) write(3, 0x10 + 4 * bar, 0xffffffff, 4);
  EXPECT_EQ(read(3, 0x10, 4), 0x0000ffe1u);
  EXPECT_EQ(read(3, 0x14, 4), 0xfffff000u);
  EXPECT_EQ(read(3, 0x18, 4), 0u);
  EXPECT_EQ(read(3, 0x20, 4), 0xffffc00cu);
  EXPECT_EQ(read(3, 0x24, 4), 0xffffffffu);
  EXPECT_TRUE(nic.moves.empty());  // decoding is off
  write(3, 0x10, 0xc000, 4), write(3, 0x14, 0xe0000000, 4);
  write(3, 0x20, 0x40000000, 4), write(3, 0x24, 0x8, 4);
  write(3, 4, 3, 2);
  EXPECT_EQ(nic.moves,
            (std::vector<std::pair<unsigned, u64>>{{0, 0xc000}, {1, 0xe0000000}, {4, 0x840000000}}));
  nic.moves.clear();
  write(3, 4, 1, 1);
  EXPECT_EQ(nic.moves, (std::vector<std::pair<unsigned, u64>>{{1, PciFunction::kUnmapped},
                                                              {4, PciFunction::kUnmapped}}));
}

TEST_F(PciTest, ReadOnlyBits) {
  write(0, 0, 0, 4);
  EXPECT_EQ(read(0, 0, 4), 0x12378086u);
  write(0, 4, 0xffff, 2);
  EXPECT_EQ(read(0, 4, 4), 0x00000547u);
}

TEST_F(PciTest, ResetPorts) {
  io.port_write(0xcf9, 0x02, 1);
  EXPECT_EQ(resets, 0);
  io.port_write(0xcf9, 0x06, 1);
  EXPECT_EQ(resets, 1);
  EXPECT_EQ(io.port_read(0xcf9, 1), 0x06u);
  io.port_write(0xcf9, 0x06, 1);  // only a rising edge counts
  EXPECT_EQ(resets, 1);
  io.port_write(0xcf8, 0xffff06ff, 4);  // a 32-bit access is the configuration address
  EXPECT_EQ(resets, 1);
  EXPECT_EQ(io.port_read(0x92, 1), 0x02u);
  io.port_write(0x92, 0x03, 1);
  EXPECT_EQ(resets, 2);
}

TEST(DebugExit, StatusAsInQemu) {
  IoBus io;
  u32 status = 0;
  DebugExit exit([&](u32 s) { status = s; });
  exit.attach(io);
  io.port_write(0xf4, 0x10, 1);
  EXPECT_EQ(status, 33u);
  io.port_write(0xf4, 0, 4);
  EXPECT_EQ(status, 1u);
}

}  // namespace
}  // namespace deja
