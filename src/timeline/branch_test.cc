// What a session that goes on from a recording connects the machine to.
#include "timeline/branch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deja {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Kind = SerialConfig::Kind;

struct Case {
  std::vector<std::string> recorded;
  bool console;
  std::vector<Kind> lines;
  std::size_t notes;
};

TEST(BranchSerial, NothingThatARecordingNamesIsOpened) {
  const std::vector<Case> cases{
      {{"stdio"}, false, {Kind::stdio}, 0},
      {{"none"}, false, {Kind::none}, 0},
      {{"file:/home/me/.profile"}, false, {Kind::stdio}, 1},
      {{"unix:/run/socket,server"}, false, {Kind::stdio}, 1},
      {{"file:/a", "stdio"}, true, {Kind::none, Kind::stdio}, 1},
      {{"none", "file:/a"}, true, {Kind::none, Kind::stdio}, 1},
      {{"file:/a", "unix:/b"}, true, {Kind::stdio, Kind::none}, 2},
      // No recorder writes these.
      {{"stdio", "stdio"}, true, {Kind::stdio, Kind::none}, 1},
      {{"stdio", "file:/a", "file:/b"}, false, {Kind::stdio}, 0},
      {{"exec:reboot"}, false, {Kind::stdio}, 1},
      {{}, true, {Kind::none, Kind::none}, 0},
  };
  for (const Case& c : cases) {
    MachineSpec machine;
    machine.serial = c.recorded;
    machine.console = c.console;
    auto serial = branch_serial(machine, {});
    ASSERT_TRUE(serial) << serial.error().message;
    std::vector<Kind> kinds;
    for (const SerialConfig& line : serial->lines) {
      kinds.push_back(line.kind);
      EXPECT_EQ(line.path, "");
    }
    EXPECT_EQ(kinds, c.lines) << testing::PrintToString(c.recorded);
    EXPECT_EQ(serial->notes.size(), c.notes) << testing::PrintToString(c.recorded);
  }
}

TEST(BranchSerial, SaysWhatItWasAndWhatItIs) {
  MachineSpec machine;
  machine.serial = {"file:/a", "unix:/b"};
  machine.console = true;
  EXPECT_THAT(
      branch_serial(machine, {})->notes,
      ElementsAre(HasSubstr("COM1 was connected to file:/a in the recording, which is not opened; it is at "
                            "this terminal now"),
                  HasSubstr("the virtio console was connected to unix:/b in the recording, which is not "
                            "opened; it is connected to nothing now")));
}

TEST(BranchSerial, TheUserNamesWhatIsOpened) {
  MachineSpec machine;
  machine.serial = {"file:/a"};
  EXPECT_EQ(branch_serial(machine, {"file:/mine"})->lines[0].path, "/mine");
  EXPECT_THAT(branch_serial(machine, {"none", "stdio"}).error().message, HasSubstr("--serial stdio"));
  EXPECT_THAT(branch_serial(machine, {"nonsense"}).error().message, HasSubstr("nonsense"));
  machine.console = true;
  EXPECT_EQ(branch_serial(machine, {"file:/mine"})->lines[1].kind, Kind::none);
}

}  // namespace
}  // namespace deja
