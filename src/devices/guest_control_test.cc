#include "devices/guest_control.h"

#include "devices/device_kit.h"
#include "devices/pci_bus.h"

namespace deja {
namespace {

constexpr u16 kBase = 0x700;
using enum GuestCommand::Kind;

class GuestControlTest : public testing::Test {
 protected:
  GuestControlTest() { control.attach(io); }
  // As `printf TEXT >/dev/port` from kBase on would.
  void write(std::string_view text, u16 stride = 1) {
    u16 port = kBase;
    for (const char c : text)
      io.port_write(port, static_cast<u8>(c), 1), port = static_cast<u16>(port + stride);
  }

  IoBus io;
  std::vector<GuestCommand> got;
  GuestControl control{kBase, false, [this](const GuestCommand& c) { got.push_back(c); }};
};

TEST_F(GuestControlTest, TakesLinesFromOnePortAndFromSuccessiveOnes) {
  write("mark one\nmark two\n", 0);
  write("mark test 17 starts\n", 1);
  write("record stop\r\nrecord start\nrecord start here\nrecord starts\n");
  EXPECT_EQ(got, (std::vector<GuestCommand>{{mark, "one", 0},
                                            {mark, "two", 0},
                                            {mark, "test 17 starts", 0},
                                            {record_stop, "", 0},
                                            {record_start, "", 0},
                                            {record_start, "here", 0}}));
}

TEST_F(GuestControlTest, TakesWhatIsWrittenToTheHostBridge) {
  PciHostBridge bridge([this](u8 byte) { control.take_byte(byte); });
  unsigned at = PciHostBridge::kTextWindow;
  for (const char c : std::string_view("mark by PCI\n")) bridge.config_write(at++, static_cast<u8>(c), 1);
  bridge.config_write(4, 0x0a, 1), bridge.config_write(PciHostBridge::kTextWindow - 4, 0x0a0a0a0a, 4);
  bridge.config_write(0xfc, 0x6b72616d, 4), bridge.config_write(0xf0, 0x0a7920, 3);
  EXPECT_EQ(got, (std::vector<GuestCommand>{{mark, "by PCI", 0}, {mark, "y", 0}}));
}

TEST_F(GuestControlTest, TakesWideWritesByteByByte) {
  for (const u32 word : {0x6b72616d, 0x000a7820}) io.port_write(kBase, word, 4);  // "mark", " x\n\0"
  EXPECT_EQ(got, (std::vector<GuestCommand>{{mark, "x", 0}}));
}

TEST_F(GuestControlTest, ExitHasAStatus) {
  write("exit\n"), write("exit 7\n"), write("exit 256\n"), write("exit x\n"), write("exit 7 \n");
  EXPECT_EQ(got, (std::vector<GuestCommand>{{exit, "", 0}, {exit, "", 7}}));
}

TEST_F(GuestControlTest, DropsWhatItDoesNotKnowAndGoesOn) {
  write("\n"), write("mark\n"), write("mark \n"), write("format c:\n"), write(std::string("\xff\0\x80\n", 4));
  write("mark " + std::string(251, 'x') + "\n", 0);
  EXPECT_TRUE(got.empty());
  write("mark " + std::string(250, 'x') + "\n", 0);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].text, std::string(250, 'x'));
}

TEST_F(GuestControlTest, MayBeLimitedToMarks) {
  GuestControl limited(kBase, true, [this](const GuestCommand& c) { got.push_back(c); });
  limited.take_line("exit 3"), limited.take_line("record stop"), limited.take_line("mark still");
  EXPECT_EQ(got, (std::vector<GuestCommand>{{mark, "still", 0}}));
}

TEST_F(GuestControlTest, SaysThatItIsThere) { EXPECT_EQ(io.port_read(kBase, 4), 0xdedededeu); }

}  // namespace
}  // namespace deja
