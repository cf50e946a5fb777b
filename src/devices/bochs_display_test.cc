#include "devices/bochs_display.h"

#include <gtest/gtest.h>

#include <vector>

#include "guest/ram.h"

namespace deja {
namespace {

class BochsDisplayTest : public testing::Test {
 protected:
  BochsDisplayTest() { screen_.reset(); }
  void set(unsigned index, u16 value) { screen_.bar_write(2, 0x500 + 2 * index, value, 2); }
  u64 get(unsigned index) { return screen_.bar_read(2, 0x500 + 2 * index, 2); }

  std::vector<std::optional<u64>> moves_;
  BochsDisplay screen_{{1024, 768}, [this](std::optional<u64> start) { moves_.push_back(start); }};
};

TEST_F(BochsDisplayTest, DriversFindItsRegisters) {
  EXPECT_EQ(screen_.config_read(0, 4), 0x11111234u);
  EXPECT_EQ(get(0) & 0xfff0, 0xb0c0u);
  EXPECT_EQ(get(10), 8_MiB / 64_KiB);
  EXPECT_EQ(screen_.bar_read(2, 0x600, 4), 8u);
  EXPECT_EQ(screen_.bar_read(2, 0x604, 4), 0x1e1e1e1eu);
}

TEST_F(BochsDisplayTest, MemoryHoldsTwoPictures) {
  for (const ScreenSize size : {BochsDisplay::kSmallest, {1024, 768}, {1280, 1024}, BochsDisplay::kLargest}) {
    const u64 memory = BochsDisplay::memory_for(size);
    EXPECT_GE(memory, 2 * u64{size.width} * size.height * 4) << size.width;
    EXPECT_LE(memory, kMaxVideoMemory);
  }
}

TEST_F(BochsDisplayTest, EdidPrefersTheSizeAskedFor) {
  u8 sum = 0;
  std::vector<u8> edid;
  for (unsigned i = 0; i < 128; ++i) {
    edid.push_back(static_cast<u8>(screen_.bar_read(2, i, 1)));
    sum = static_cast<u8>(sum + edid.back());
  }
  EXPECT_EQ(sum, 0);
  EXPECT_EQ(screen_.bar_read(2, 0, 8), 0x00ffffffffffff00u);
  EXPECT_EQ(edid[56] | edid[58] >> 4 << 8, 1024);
  EXPECT_EQ(edid[59] | edid[61] >> 4 << 8, 768);
}

TEST_F(BochsDisplayTest, AModeIsWhatFitsIntoVideoMemory) {
  EXPECT_FALSE(screen_.mode());
  set(1, 800), set(2, 600), set(3, 32);
  EXPECT_FALSE(screen_.mode()) << "not enabled";
  set(4, 0x41);
  ASSERT_TRUE(screen_.mode());
  EXPECT_EQ(screen_.mode()->size, (ScreenSize{800, 600}));
  EXPECT_EQ(screen_.mode()->stride, 3200u);
  set(6, 1024), set(8, 16), set(9, 2);
  EXPECT_EQ(screen_.mode()->stride, 4096u);
  EXPECT_EQ(screen_.mode()->offset, 2 * 4096u + 64);
  set(9, 1448);
  EXPECT_TRUE(screen_.mode()) << "lines 1448 to 2047 of 2048";
  set(9, 1449);
  EXPECT_FALSE(screen_.mode()) << "beyond the end";
  set(9, 0), set(3, 8);
  EXPECT_FALSE(screen_.mode()) << "8 bits a pixel need a palette";
  for (unsigned i = 1; i < 10; ++i) set(i, 0xffff);
  EXPECT_FALSE(screen_.mode());
}

TEST_F(BochsDisplayTest, TheWindowFollowsItsBar) {
  screen_.config_write(0x10, 0xe2000000, 4);
  EXPECT_TRUE(moves_.empty()) << "not decoded yet";
  screen_.switch_on();
  screen_.config_write(0x10, 0xe4000000, 4);
  screen_.config_write(4, 0, 2);
  EXPECT_EQ(moves_, (std::vector<std::optional<u64>>{0xe2000000, 0xe4000000, std::nullopt}));
}

TEST_F(BochsDisplayTest, FirmwareSwitchesThePreferredModeOn) {
  screen_.switch_on();
  ASSERT_TRUE(screen_.mode());
  EXPECT_EQ(screen_.mode()->size, (ScreenSize{1024, 768}));
  EXPECT_EQ(screen_.mode()->offset, 0u);
}

}  // namespace
}  // namespace deja
