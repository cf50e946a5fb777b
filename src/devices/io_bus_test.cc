#include "devices/io_bus.h"

#include <gtest/gtest.h>

#include <map>

#include "devices/byte_port_device.h"

namespace deja {
namespace {

struct Ports : BytePortDevice {
  std::map<u16, u8> bytes;
  u8 read_byte(u16 port) override { return bytes[port]; }
  void write_byte(u16 port, u8 value) override { bytes[port] = value; }
};

struct Window : MmioDevice {
  u64 last_offset = 0, last_value = 0;
  u64 mmio_read(u64 offset, unsigned size) override { return 0x1122334455667788; }
  void mmio_write(u64 offset, u64 value, unsigned size) override { last_offset = offset, last_value = value; }
};

TEST(IoBus, UnclaimedReadsAsOnes) {
  IoBus bus;
  EXPECT_EQ(bus.port_read(0x80, 1), 0xffu);
  EXPECT_EQ(bus.port_read(0x80, 2), 0xffffu);
  EXPECT_EQ(bus.port_read(0xffff, 4), 0xffffffffu);
  EXPECT_EQ(bus.mmio_read(Gpa(0xfeb00000), 2), 0xffffu);
  EXPECT_EQ(bus.mmio_read(Gpa(0xfeb00000), 8), ~u64{0});
  bus.port_write(0xffff, 1, 4);
  bus.mmio_write(Gpa(~u64{0}), 1, 8);
}

TEST(IoBus, WideAccessIsCutAtTheEndOfADevice) {
  IoBus bus;
  Ports a, b;
  bus.attach_ports(0x60, 1, &a);
  bus.attach_ports(0x62, 2, &b);
  bus.port_write(0x60, 0x44332211, 4);
  EXPECT_EQ(a.bytes, (std::map<u16, u8>{{0x60, 0x11}}));
  EXPECT_EQ(b.bytes, (std::map<u16, u8>{{0x62, 0x33}, {0x63, 0x44}}));
  EXPECT_EQ(bus.port_read(0x60, 4), 0x4433ff11u);
}

TEST(IoBus, MmioOffsetsAndEnds) {
  IoBus bus;
  Window w;
  bus.attach_mmio(Gpa(0x1000), 0x100, &w);
  bus.mmio_write(Gpa(0x10f0), 0xabcdef, 2);
  EXPECT_EQ(w.last_offset, 0xf0u);
  EXPECT_EQ(w.last_value, 0xcdefu);
  EXPECT_EQ(bus.mmio_read(Gpa(0x1000), 4), 0x55667788u);
  EXPECT_EQ(bus.mmio_read(Gpa(0x10fe), 4), 0xffffffffu);
}

TEST(IoBusDeathTest, OverlapIsRefused) {
  IoBus bus;
  Ports a;
  bus.attach_ports(0x60, 4, &a);
  EXPECT_DEATH(bus.attach_ports(0x63, 1, &a), "overlaps");
  EXPECT_DEATH(bus.attach_ports(0x5f, 2, &a), "overlaps");
}

}  // namespace
}  // namespace deja
