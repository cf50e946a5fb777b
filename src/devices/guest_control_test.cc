#include "devices/guest_control.h"

#include <algorithm>

#include "devices/device_kit_for_test.h"
#include "devices/pci/pci_bus.h"

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
  FakeTime time;
  GuestControl control{kBase, time, false, [this](const GuestCommand& c) { got.push_back(c); }};
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
  GuestControl limited(kBase, time, true, [this](const GuestCommand& c) { got.push_back(c); });
  limited.take_line("exit 3"), limited.take_line("record stop"), limited.take_line("mark still");
  EXPECT_EQ(got, (std::vector<GuestCommand>{{mark, "still", 0}}));
}

TEST_F(GuestControlTest, MarksAreBoundedInTheGuestsTime) {
  const auto bytes_of = [&](GuestCommand::Kind kind) {
    u64 bytes = 0;
    for (const GuestCommand& c : got) bytes += c.kind == kind ? c.text.size() + GuestControl::kMarkCost : 0;
    return bytes;
  };
  const std::string line = "mark " + std::string(68, 'x');
  constexpr u64 kCost = 100;
  while (control.take_line(line)) {
  }
  EXPECT_EQ(bytes_of(mark), GuestControl::kMarkBurst / kCost * kCost);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(control.take_line(line));
  EXPECT_EQ(got.back().kind, marks_refused);
  EXPECT_EQ(std::count_if(got.begin(), got.end(), [](const auto& c) { return c.kind == marks_refused; }), 1);
  EXPECT_TRUE(control.take_line("record stop")) << "it is about marks";
  // The allowance comes back by the byte; a reset of the guest adds nothing to it.
  control.reset();
  got.clear();
  constexpr u64 kSeconds = 30;
  for (u64 ms = 0; ms < kSeconds * 1000; ++ms) {
    time.now_ += 1'000'000;
    control.take_line(line);
  }
  const u64 back = kSeconds * 1'000'000'000 / GuestControl::kMarkRefillNs;
  EXPECT_GE(bytes_of(mark) + 2 * kCost, back);
  EXPECT_LE(bytes_of(mark), back + kCost);
}

TEST_F(GuestControlTest, MarksAreBoundedInAll) {
  const std::string line = "mark " + std::string(218, 'x');
  u64 bytes = 0;
  for (u64 i = 0; i < GuestControl::kMostMarks / 200; ++i) {
    time.now_ += 1'000'000'000;
    if (control.take_line(line)) bytes += 250;
  }
  EXPECT_LE(bytes, GuestControl::kMostMarks);
  EXPECT_GT(bytes + 250, GuestControl::kMostMarks);
}

TEST_F(GuestControlTest, TheSameMarksAreRefusedAfterACheckpoint) {
  const std::string line = "mark " + std::string(68, 'x');
  for (int i = 0; i < 2000; ++i) control.take_line(line);
  StateWriter w;
  control.save(w);
  GuestControl copy(kBase, time, false, [](const GuestCommand&) {});
  StateReader r(w.data());
  ASSERT_TRUE(copy.restore(r));
  for (int i = 0; i < 3000; ++i) {
    time.now_ += 1'000'000;
    ASSERT_EQ(copy.take_line(line), control.take_line(line)) << i;
  }
}

TEST_F(GuestControlTest, SaysThatItIsThere) { EXPECT_EQ(io.port_read(kBase, 4), 0xdedededeu); }

}  // namespace
}  // namespace deja
