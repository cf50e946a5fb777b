#include "timeline/trim.h"

#include <gtest/gtest.h>

#include "timeline/ticking_recording_for_test.h"

namespace deja {
namespace {

using TrimTest = TickingRecordingTest;

TEST_F(TrimTest, AWindowOfNothingOrBeyondTheEndsIsRefusedAndLeavesNothing) {
  auto nav = open(dir_);
  TrimRequest request;
  request.name = (temp_.path / "window").string();
  request.interval = kInterval;
  for (const auto& [from, to] : std::vector<std::pair<Step, Step>>{{7, 7}, {9, 8}, {5, nav->last() + 1}}) {
    request.from = from, request.to = to;
    EXPECT_FALSE(trim_recording(*nav, request, clock_));
    EXPECT_FALSE(std::filesystem::exists(temp_.path / "window.deja"));
  }
}

}  // namespace
}  // namespace deja
