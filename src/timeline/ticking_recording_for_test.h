// A recording of a guest that counts its timer's interrupts in memory, for tests of what finds such writes.
#pragma once

#include "replay/session_for_test.h"
#include "timeline/index_recording.h"
#include "timeline/navigator.h"

namespace deja {

inline constexpr u64 kTicks = 0x60000;  // where it counts
inline constexpr Step kInterval = 100'000;

class TickingRecordingTest : public SessionTest {
 protected:
  TickingRecordingTest() {
    type(103, "b"), type(300, "xy"), type(503, "b"), type(700, "q");
    dir_ = record();
  }
  std::unique_ptr<Navigator> open(const std::filesystem::path& dir) {
    auto navigator = Navigator::open(dir, engine_);
    EXPECT_TRUE(navigator) << navigator.error().message;
    return std::move(navigator).value();
  }
  void add_checkpoints(Step interval = kInterval) {
    auto report = index_recording({dir_, engine_, interval, {}});
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_GT(report->checkpoints, 3u);
  }
  static ObservationSpec watch_ticks() {
    ObservationSpec spec;
    Watchpoint w;
    w.address = kTicks;
    w.size = 4;
    spec.watchpoints.push_back(w);
    return spec;
  }
  // Every count there is, by one run from start to end.
  static std::vector<Hit> ticks(Navigator& nav) {
    EXPECT_TRUE(nav.seek(nav.first()));
    Engine& engine = nav.machine().engine();
    engine.observe(watch_ticks());
    std::vector<Hit> hits;
    while (nav.position() < nav.last()) {
      EXPECT_TRUE(nav.run_to(nav.last()));
      for (Hit& hit : engine.observation().take()) hits.push_back(std::move(hit));
    }
    engine.observe({});
    return hits;
  }

  std::filesystem::path dir_;
};

}  // namespace deja
