#include "devices/fw_cfg.h"

#include <gtest/gtest.h>

#include <cstring>

#include "devices/device_kit_for_test.h"

namespace deja {
namespace {

constexpr u16 kPort = 0x510;

class FwCfgTest : public testing::Test {
 protected:
  FwCfgTest() { device_.attach(bus_, kPort); }

  static FwCfgItems items() {
    FwCfgItems items;
    items.add_number(FwCfgItems::kCpuCount, 3, 2);
    items.add_file("etc/a", {1, 2, 3});
    items.add_file("etc/b", {4});
    return items;
  }
  std::string read(u16 item, unsigned size) {
    bus_.port_write(kPort, item, 2);
    std::string out;
    for (unsigned i = 0; i < size; ++i) out.push_back(static_cast<char>(bus_.port_read(kPort + 1, 1)));
    return out;
  }
  // A request as in docs/specs/fw_cfg.rst; returns its control word when it is done.
  u32 dma(u32 control, u32 length, u64 address) {
    const auto big = [](u8* to, u64 value, unsigned size) {
      for (unsigned i = 0; i < size; ++i) to[i] = static_cast<u8>(value >> (8 * (size - 1 - i)));
    };
    u8 request[16];
    big(request, control, 4), big(request + 4, length, 4), big(request + 8, address, 8);
    EXPECT_TRUE(ram_->write(Gpa(kRequest), request, sizeof request));
    u8 low[4];
    big(low, kRequest, 4);
    u32 value;
    std::memcpy(&value, low, 4);
    bus_.port_write(kPort + 8, value, 4);
    EXPECT_TRUE(ram_->read(Gpa(kRequest), request, 4));
    EXPECT_EQ(request[3], static_cast<u8>(control)) << "nothing is done at once";
    run_until(time_, time_.now_ + 1'000'000, device_);
    EXPECT_TRUE(ram_->read(Gpa(kRequest), request, 4));
    return u32{request[0]} << 24 | request[1] << 16 | request[2] << 8 | request[3];
  }

  static constexpr u64 kRequest = 0x1000, kTarget = 0x2000;
  std::unique_ptr<GuestRam> ram_ = std::move(GuestRam::create(1_MiB, 64_KiB)).value();
  FakeTime time_;
  IoBus bus_;
  FwCfg device_{items(), *ram_, time_};
};

TEST_F(FwCfgTest, ItemsAreReadByteByByteAndEndInZeros) {
  EXPECT_EQ(read(FwCfgItems::kSignature, 4), "QEMU");
  EXPECT_EQ(read(FwCfgItems::kId, 4), std::string("\3\0\0\0", 4));
  EXPECT_EQ(read(FwCfgItems::kCpuCount, 4), std::string("\3\0\0\0", 4));
  EXPECT_EQ(read(0x7777, 2), std::string(2, '\0'));
}

TEST_F(FwCfgTest, TheDirectoryNamesFiles) {
  const std::string directory = read(FwCfgItems::kDirectory, 4 + 2 * 64);
  EXPECT_EQ(directory.substr(0, 4), std::string("\0\0\0\2", 4));
  EXPECT_EQ(directory.substr(4, 14), std::string("\0\0\0\3\0\x20\0\0etc/a\0", 14));
  EXPECT_EQ(directory.substr(68, 14), std::string("\0\0\0\1\0\x21\0\0etc/b\0", 14));
  EXPECT_EQ(read(FwCfgItems::kFirstFile, 4), std::string("\1\2\3\0", 4));
}

TEST_F(FwCfgTest, DmaSelectsSkipsAndReads) {
  EXPECT_EQ(bus_.port_read(kPort + 4, 4), 0x554d4551u) << "QEMU";
  const u8 before[4] = {9, 9, 9, 9};
  ASSERT_TRUE(ram_->write(Gpa(kTarget), before, 4));
  EXPECT_EQ(dma(u32{FwCfgItems::kFirstFile} << 16 | 8 | 4, 1, 0), 0u);
  EXPECT_EQ(dma(2, 3, kTarget), 0u);
  u8 got[4];
  ASSERT_TRUE(ram_->read(Gpa(kTarget), got, 4));
  EXPECT_EQ(std::vector<u8>(got, got + 4), (std::vector<u8>{2, 3, 0, 9})) << "zeros behind the end";
}

TEST_F(FwCfgTest, RequestsForWhatThereIsNotFail) {
  EXPECT_EQ(dma(2, 0xffffffff, kTarget), 1u) << "beyond RAM";
  EXPECT_EQ(dma(2, 16, 0x80000000), 1u) << "no memory";
  EXPECT_EQ(dma(2, 16, 0xffff0000), 1u) << "read-only memory";
  EXPECT_EQ(dma(16, 4, kTarget), 1u) << "nothing can be written";
  bus_.port_write(kPort + 4, 0xffffffff, 4);
  bus_.port_write(kPort + 8, 0xffffffff, 4);
  run_until(time_, time_.now_ + 1'000'000, device_);
}

}  // namespace
}  // namespace deja
