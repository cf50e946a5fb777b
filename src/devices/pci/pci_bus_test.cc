#include "devices/pci/pci_bus.h"

#include "devices/debug_exit.h"
#include "devices/device_kit_for_test.h"
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
  using Moves = std::vector<std::pair<unsigned, std::optional<u64>>>;
  Moves moves;
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
  PciHost host{control, [](unsigned, bool) {}};
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
  EXPECT_EQ(nic.moves, (Nic::Moves{{0, 0xc000}, {1, 0xe0000000}, {4, 0x840000000}}));
  nic.moves.clear();
  write(3, 4, 1, 1);
  EXPECT_EQ(nic.moves, (Nic::Moves{{1, std::nullopt}, {4, std::nullopt}}));
}

// The same registers through memory; accesses of any size and alignment are put together from aligned ones.
TEST_F(PciTest, MemoryMappedConfiguration) {
  host.attach_ecam(io, 0xe0000000);
  EXPECT_EQ(io.mmio_read(Gpa(0xe0000000), 4), 0x12378086u);
  EXPECT_EQ(io.mmio_read(Gpa(0xe0018000), 8), 0x1041'1af4u | u64{read(3, 4, 4)} << 32);
  EXPECT_EQ(io.mmio_read(Gpa(0xe0018001), 2), 0x411au);
  EXPECT_EQ(io.mmio_read(Gpa(0xe0008000), 4), 0xffffffffu) << "nothing in slot 1";
  EXPECT_EQ(io.mmio_read(Gpa(0xe0018100), 4), 0u) << "no extended capabilities";
  io.mmio_write(Gpa(0xe0018014), 0xd0000000, 4);
  EXPECT_EQ(read(3, 0x14, 4), 0xd0000000u);
  io.mmio_write(Gpa(0xe0018ffe), 0xffff, 2);
}

TEST_F(PciTest, BarsAreDecodedInTheirWindowWhereTheyStand) {
  struct Card : PciFunction {
    Card() : PciFunction("card", {1, 2, 0}) { add_bar(0, BarKind::memory32, 4096); }
    u64 bar_read(unsigned, u64 offset, unsigned) override { return offset; }
    void bar_write(unsigned, u64 offset, u64 value, unsigned) override { written = {offset, value}; }
    std::pair<u64, u64> written;
  } card;
  host.add(5, 0, &card);
  host.attach_window(io, 0xc0000000, 0x1000000);
  host.assign_bars(0xc0000000, 0xc1000000);
  const u64 at = read(5, 0x10, 4);
  EXPECT_EQ(at, 0xc0008000u) << "behind those of slot 3, at a multiple of its size";
  EXPECT_EQ(io.mmio_read(Gpa(at + 8), 4), 0xffffffffu) << "memory decoding is off";
  write(5, 4, 2, 2);
  EXPECT_EQ(io.mmio_read(Gpa(at + 8), 4), 8u);
  io.mmio_write(Gpa(at + 0xffc), 7, 4);
  EXPECT_EQ(card.written, (std::pair<u64, u64>{0xffc, 7}));
  EXPECT_EQ(io.mmio_read(Gpa(at + 0xffe), 4), 0xffffffffu) << "an access that runs over its end";
  write(5, 0x10, 0xc0400000, 4);
  EXPECT_EQ(io.mmio_read(Gpa(at + 8), 4), 0xffffffffu);
  EXPECT_EQ(io.mmio_read(Gpa(0xc0400010), 4), 0x10u);
}

TEST(PciInterrupts, SlotsShareWires) {
  struct Card : PciFunction {
    explicit Card(std::string name) : PciFunction(std::move(name), {1, 2, 0}) {}
    void drive(bool level) { drive_intx(level); }
  } a("a"), b("b");
  std::vector<std::pair<unsigned, bool>> wires;
  IoBus io;
  ResetControl control{[] {}};
  PciHost host{control, [&](unsigned wire, bool level) { wires.emplace_back(wire, level); }};
  host.add(1, 0, &a), host.add(5, 0, &b);
  a.drive(true), b.drive(true), a.drive(false), b.drive(false);
  EXPECT_EQ(wires, (std::vector<std::pair<unsigned, bool>>{{1, true}, {1, false}}));
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
