// A recording whose beginning moves on: whatever moment its recorder is killed at, what is there is a
// recording.
#include "replay/flight_recorder.h"

#include <thread>

#include "checkpoint/restore.h"
#include "replay/checkpointing.h"
#include "replay/session_for_test.h"

namespace deja {
namespace {

namespace fs = std::filesystem;

constexpr u64 kKeepNs = 2 * kSecond;

class FlightRecorderTest : public SessionTest, public EventSink {
 protected:
  Status append(const LogEvent& event) override {
    // The copied log begins with the moment's time, and goes on with this.
    if (const auto* progress = std::get_if<event::Progress>(&event.body)) {
      EXPECT_GE(progress->host_ns, moment_ns_);
    }
    return writer_->append(event);
  }
  Status tick() override {
    if (at_tick_) at_tick_();
    return flight_->tick(live_->host_ns());
  }
  Status flush() override { return writer_->flush(); }
  std::string describe() const override { return "test"; }

  // Records the session of the scripted inputs.
  void record_bounded() {
    dir_ = create_recording_dir((temp_.path / "rec").string(), 0).value();
    RecordingManifest manifest;
    manifest.machine_version = kMachineBehaviour;
    manifest.machine = setup_.spec;
    manifest.rtc_base_unix_seconds = setup_.rtc_unix_seconds;
    manifest.inputs.push_back(add_input(dir_, "kernel", files_.kernel.path, InputStorage::copy).value());
    manifest.window = WindowInfo{kKeepNs, 0};
    writer_ = std::move(RecordingWriter::create(dir_, manifest, clock_)).value();
    machine_ = std::move(Machine::create(*machine_config(setup_, files_), {})).value();
    auto file = create_append_file((dir_ / "checkpoints.dat").string());
    checkpoints_ = std::move(CheckpointWriter::create(std::move(*file), checkpoint_owner(writer_->manifest()),
                                                      machine_->ram()))
                       .value();
    ASSERT_TRUE(checkpoints_->take_base(checkpoint_point(*machine_, {}, {})).ok());
    flight_ = std::make_unique<FlightRecorder>(*writer_, *checkpoints_, shape_of(*machine_), clock_,
                                               [this](std::string_view line) { notes_.emplace_back(line); });
    LiveOptions options;
    options.digest_interval = kTestDigests;
    options.checkpoint_interval = 500'000;
    options.checkpoint_interval_ns = kKeepNs / 8;
    options.checkpoint = [&](const SessionCounts& counts, const std::string& serial) {
      checkpoints_->take(checkpoint_point(*machine_, counts, serial));
      moment_ns_ = live_->host_ns();
      flight_->add({{machine_->clock().steps, machine_->now(), live_->instructions(), {}, 0},
                    counts.events,
                    live_->host_ns(),
                    clock_.wall_unix_ns()});
      return true;
    };
    LiveSession session(
        *machine_, inputs_, output_, clock_, this, [](std::string_view) {}, options);
    live_ = &session;
    EndInfo info;
    info.end = session.run();
    info.final_step = machine_->clock().steps;
    info.instructions = session.instructions();
    EXPECT_TRUE(checkpoints_->finish().ok());
    flight_->finish();
    EXPECT_TRUE(writer_->finish(info).ok());
    flight_.reset();
    writer_.reset();
  }
  // Ten seconds of sleeps, inputs and busy stretches.
  void script() {
    for (u64 ms = 100; ms < 10'000; ms += 300) type(ms, ms % 900 == 100 ? "b" : "xyz");
    quit(10'000);
  }
  void expect_identical(const fs::path& dir) {
    auto report = run_replay({dir, engine_, {}, false, {}}, replayed_, clock_);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_FALSE(report->divergence) << report->divergence_report;
  }

  fs::path dir_;
  std::unique_ptr<RecordingWriter> writer_;
  std::unique_ptr<CheckpointWriter> checkpoints_;
  std::unique_ptr<FlightRecorder> flight_;
  LiveSession* live_ = nullptr;
  u64 moment_ns_ = 0;  // of the last checkpoint
  std::function<void()> at_tick_;
};

TEST_F(FlightRecorderTest, HoldsTheLastStretchAndCountsStepsOn) {
  script();
  // A host whose disk keeps up.
  at_tick_ = [this] {
    if (flight_->moving()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  };
  record_bounded();
  expect_identical(dir_);
  auto recording = Recording::open(dir_);
  ASSERT_TRUE(recording);
  const RecordingManifest& m = recording->manifest;
  ASSERT_TRUE(m.base && m.window);
  EXPECT_GT(m.window->number, 1u);
  EXPECT_GT(m.base->virtual_ns, 5 * kSecond);
  EXPECT_LT(m.base->virtual_ns, 8 * kSecond);
  EXPECT_GT(m.base->instructions, 1'000'000u);
  // Nothing is left of what was before.
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(dir_)) files += entry.is_regular_file();
  EXPECT_EQ(files, 3u) << "manifest, log, checkpoints";
  EXPECT_TRUE(notes_.empty()) << notes_[0];
}

TEST_F(FlightRecorderTest, IsARecordingAtEveryMoment) {
  script();
  std::vector<fs::path> copies;
  u64 next_ns = 0;
  std::size_t files_before = 0;
  at_tick_ = [&] {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(dir_)) files += entry.is_regular_file();
    // Now and then, and whenever a move has begun or ended.
    if (std::exchange(files_before, files) == files && clock_.now_ns < next_ns) return;
    next_ns = clock_.now_ns + kSecond / 2;
    (void)writer_->flush().ok();
    copies.push_back(temp_.path / fmt::format("copy{}.deja", copies.size()));
    fs::copy(dir_, copies.back(), fs::copy_options::recursive);
  };
  record_bounded();
  EXPECT_GT(copies.size(), 20u);
  std::size_t moved = 0;
  for (const fs::path& copy : copies) {
    expect_identical(copy);
    auto recording = Recording::open(copy);
    ASSERT_TRUE(recording);
    moved += recording->manifest.base.has_value();
  }
  EXPECT_GT(moved, 5u);
}

}  // namespace
}  // namespace deja
