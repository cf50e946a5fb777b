// Whole sessions on a fake host: scripted inputs, a fake clock, a terminal that is slow, and a disk that is
// full, fails, or loses its writer or its host at any operation. Afterwards the recording opens and replays,
// identically, as far as it goes, or an error names the file that is to blame; and nothing is missing that
// nobody was told of.
//
//   DEJA_SEED=N                 the random session with this seed only
//   DEJA_SESSIONS=N             so many random ones, from ever new seeds; and no operation of the others is
//   left out
#include <algorithm>
#include <cstdlib>
#include <random>

#include "checkpoint/restore.h"
#include "eventlog/faulty_files_for_test.h"
#include "replay/apply.h"
#include "replay/replayer.h"
#include "replay/session_for_test.h"
#include "replay/session_recorder.h"

namespace deja {
namespace {

namespace fs = std::filesystem;

constexpr u64 kUsualSessions = 60;

u64 number_in_environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Takes `bytes_per_ms` bytes each millisecond of host time, and none between `stuck_from` and `stuck_to`.
class SlowTerminal final : public SerialOutput {
 public:
  SlowTerminal(HostClock& clock, u64 bytes_per_ms, u64 stuck_from, u64 stuck_to)
      : clock_(clock), bytes_per_ms_(bytes_per_ms), stuck_from_(stuck_from), stuck_to_(stuck_to) {}
  void write(u8, std::string_view bytes) override {
    said += bytes;
    waiting_ += bytes.size();
  }
  bool backlogged() const override {
    take();
    return waiting_ > kRoom;
  }
  Status drain(u64) override { return take(), Status(); }

  std::string said;  // all of it, shown or not

 private:
  static constexpr u64 kRoom = 4;
  void take() const {
    const u64 now = clock_.monotonic_ns();
    const u64 ms = (now - std::exchange(taken_at_, now / kMs * kMs)) / kMs;
    if (now < stuck_from_ || now >= stuck_to_) waiting_ -= std::min(waiting_, ms * bytes_per_ms_);
  }
  HostClock& clock_;
  const u64 bytes_per_ms_, stuck_from_, stuck_to_;
  mutable u64 waiting_ = 0, taken_at_ = 0;
};

// What happens to a session, all of it drawn from a seed or set by a test.
struct Plan {
  std::vector<std::pair<u64, HostInput>> inputs;  // host time in ns; ascending
  std::vector<DiskFault> faults;
  Step checkpoint_interval = 500'000;
  u64 keep_ns = 0;
  std::optional<u64> chaos;
  bool interactive = false;
  u64 terminal_bytes_per_ms = 1'000'000, stuck_from = 0, stuck_to = 0;
  u64 disk_seed = 1;
  bool crash_afterwards = false;  // of the host, when the recording has ended
};

std::string to_text(const Plan& plan) {
  constexpr const char* kKinds[] = {"no room", "I/O error", "kill", "power loss"};
  constexpr const char* kFiles[] = {"log", "checkpoints", "manifest"};
  std::string text = fmt::format("checkpoints every {}, keep {} ms, {}", plan.checkpoint_interval,
                                 plan.keep_ns / kMs, plan.interactive ? "interactive" : "not interactive");
  for (const DiskFault& f : plan.faults)
    text += fmt::format("; {} at operation {} (of {}) on the {}", kKinds[static_cast<unsigned>(f.kind)], f.at,
                        f.length, kFiles[static_cast<unsigned>(f.file)]);
  return text;
}

// All that the session wanted to have on record, whatever becomes of it.
class Tee final : public EventSink {
 public:
  Tee(EventSink& sink, FaultyFiles& disk) : sink_(sink), disk_(disk) {}
  Status append(const LogEvent& event) override {
    events.push_back(event);
    return sink_.append(event);
  }
  // The host keeps up: the fake clock does not run away from the threads of the recorder.
  Status tick() override {
    disk_.wait_for_copies();
    return sink_.tick();
  }
  Status flush() override { return sink_.flush(); }
  std::string describe() const override { return sink_.describe(); }
  std::vector<LogEvent> events;

 private:
  EventSink& sink_;
  FaultyFiles& disk_;
};

class SessionFaultsTest : public SessionTest {
 protected:
  // Runs a session and looks at what it leaves. Failures name `what`. False: none of the faults struck.
  bool simulate(const Plan& plan, const std::string& what) {
    SCOPED_TRACE(what + ": " + to_text(plan));
    TempDir temp;
    FaultyFiles disk(plan.faults, plan.disk_seed);
    const fs::path dir = create_recording_dir((temp.path / "rec").string(), 0).value();
    const Outcome outcome = run_session_on(disk, dir, plan);
    const bool struck = disk.struck();
    if (disk.dead()) {
      check_dead(dir, disk, outcome.wanted, outcome.said);
    } else if (outcome.error) {
      EXPECT_TRUE(disk.struck()) << outcome.error->message;
      EXPECT_TRUE(names_file_of(outcome.error->message, dir)) << outcome.error->message;
      if (outcome.begun) check_recording_of(dir, disk, outcome.wanted, outcome.said, false);
    } else {
      // Whatever the disk did, the recorder says that the recording is whole, which a crash does not change.
      if (plan.crash_afterwards) disk.crash();
      check_recording_of(dir, disk, outcome.wanted, outcome.said, true);
    }
    return struck;
  }

  struct Outcome {
    bool begun = false;
    std::optional<Error> error;    // that the user is told of
    std::vector<LogEvent> wanted;  // all that the session gave to the log
    std::string said;              // on COM1
  };

  // As run_session() does it, with a fake host.
  Outcome run_session_on(FaultyFiles& disk, const fs::path& dir, const Plan& plan) {
    clock_.now_ns = 0;
    ScriptedInputs inputs(clock_);
    for (const auto& [at_ns, input] : plan.inputs) inputs.add(at_ns, input);
    SlowTerminal terminal(clock_, plan.terminal_bytes_per_ms, plan.stuck_from, plan.stuck_to);
    GuestSetup setup = setup_;
    if (plan.chaos) setup.spec.options[std::string(kChaosOption)] = std::to_string(*plan.chaos);
    auto machine = std::move(Machine::create(*machine_config(setup, files_), {})).value();
    const auto notify = [](std::string_view) {};
    LiveSession* live = nullptr;
    const std::vector<SerialConfig> serial{{}};
    SessionRecorder recorder({*machine, setup, files_, serial, nullptr, notify,
                              [&] { return live->host_ns(); }, [&] { return live->instructions(); }},
                             {"", InputStorage::copy, plan.checkpoint_interval, plan.keep_ns}, clock_, disk);
    Status begun = recorder.begin(dir);
    if (begun) begun = recorder.start_checkpoints();
    if (!begun) return {false, begun.error(), {}, {}};
    Tee tee(recorder, disk);
    LiveOptions options;
    options.interactive = plan.interactive;
    options.digest_interval = kTestDigests;
    options.checkpoint_interval = plan.checkpoint_interval;
    options.checkpoint_interval_ns = plan.keep_ns / 8;
    if (plan.checkpoint_interval)
      options.checkpoint = [&](const SessionCounts& counts, const std::string& text) {
        return recorder.take_checkpoint(counts, text);
      };
    LiveSession session(*machine, inputs, terminal, clock_, &tee, notify, options);
    live = &session;
    const event::End end = session.run();
    const RecordingReport report = recorder.end(end);
    moves_ += report.kept_ns != 0;
    tee.events.push_back({machine->clock().steps, end});
    return {true, report.error, std::move(tee.events), std::move(terminal.said)};
  }

  static bool names_file_of(const std::string& message, const fs::path& dir) {
    return message.find(dir.string() + "/") != std::string::npos;
  }

  void check_dead(const fs::path& dir, const FaultyFiles& disk, const std::vector<LogEvent>& wanted,
                  const std::string& said) {
    auto recording = Recording::open(dir);
    if (recording) return check_recording_of(dir, disk, wanted, said, false);
    EXPECT_TRUE(names_file_of(recording.error().message, dir)) << recording.error().message;
    // That may be only before it has begun, or when the host's crash has taken a log that was never synced.
    const fs::path manifest = dir / kManifestFile;
    if (!fs::exists(manifest)) {
      EXPECT_LE(disk.operations(FileKind::manifest), 1u);
      return;
    }
    const RecordingManifest names = parse_manifest(slurp(manifest), manifest.string()).value();
    EXPECT_EQ(disk.promised_bytes(dir / events_file(names)), 0u) << recording.error().message;
  }

  // `wanted`: what the session gave to the log. `complete`: nothing of it may be missing.
  void check_recording_of(const fs::path& dir, const FaultyFiles& disk, const std::vector<LogEvent>& wanted,
                          const std::string& said, bool complete) {
    auto recording = Recording::open(dir);
    ASSERT_TRUE(recording) << recording.error().message;
    EXPECT_EQ(recording->state, recording->manifest.end ? RecordingState::ended : RecordingState::killed);
    const fs::path log = dir / events_file(recording->manifest);
    std::vector<LogEvent> got;
    std::optional<Error> damage;
    while (!damage) {
      auto event = recording->log.next();
      if (!event) {
        damage = event.error();
      } else if (*event) {
        got.push_back(**event);
      } else {
        break;
      }
    }
    if (damage) {
      EXPECT_NE(damage->message.find(log.string()), std::string::npos) << damage->message;
    }
    EXPECT_GE(recording->log.offset(), disk.promised_bytes(log));
    const auto same = same_events(recording->manifest, got, wanted);
    if (complete) {
      EXPECT_FALSE(damage) << damage->message;
      ASSERT_TRUE(recording->manifest.end);
      EXPECT_TRUE(recording->check_end().ok());
      EXPECT_EQ(same, wanted.size()) << "events are missing that nobody was told of";
    }
    replay_all(dir, recording->manifest, got, damage, said);
  }

  // How many of `wanted` the log holds, or leaves out because they come before its base. Fails if they are
  // others.
  static std::size_t same_events(const RecordingManifest& manifest, const std::vector<LogEvent>& got,
                                 const std::vector<LogEvent>& wanted) {
    std::size_t at = 0, from = 0;
    if (manifest.base) {
      // Its own opening: when it was. Then the digest at its base.
      if (got.size() < 3) return 0;
      from = 2;
      at = static_cast<std::size_t>(std::find(wanted.begin(), wanted.end(), got[2]) - wanted.begin());
      EXPECT_EQ(got[2].step, manifest.base->step);
    }
    const std::size_t count = got.size() - from;
    if (at + count > wanted.size()) {
      ADD_FAILURE() << "the log holds more events than there were";
      return 0;
    }
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(got[from + i], wanted[at + i]) << "event " << i;
    return at + count;
  }

  void replay_all(const fs::path& dir, const RecordingManifest& manifest, const std::vector<LogEvent>& got,
                  const std::optional<Error>& damage, const std::string& said) {
    const Step last = got.empty() ? first_step(manifest) : got.back().step;
    StringSerialOutput output;
    auto report = run_replay({dir, {}, damage ? std::to_string(last) : "", false, {}}, output, clock_);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_FALSE(report->divergence) << report->divergence_report;
    EXPECT_EQ(report->digests, only<event::Digest>(got).size());
    const std::string text = output.text.empty() ? "" : output.text[0];
    if (!manifest.base) {
      EXPECT_TRUE(said.starts_with(text)) << "it said '" << said << "', and now '" << text << "'";
    }
    check_checkpoints(dir, last);
  }

  // Those that can be read are the machine that a replay has there.
  void check_checkpoints(const fs::path& dir, Step last) {
    auto opened = Replayer::open(dir, {});
    ASSERT_TRUE(opened) << opened.error().message;
    Replayer& straight = **opened;
    auto checkpoints = open_checkpoints(dir, straight.manifest(), straight.machine());
    ASSERT_TRUE(checkpoints) << checkpoints.error().message;
    if (!checkpoints->problem().empty()) {
      EXPECT_NE(checkpoints->problem().find(dir.string() + "/"), std::string::npos) << checkpoints->problem();
    }
    for (std::size_t i = 0; i < checkpoints->size(); ++i) {
      const CheckpointPoint& point = checkpoints->point(i);
      if (point.step > last || point.step < straight.step()) continue;
      auto stop = straight.run_to(point.step);
      ASSERT_TRUE(stop) << stop.error().message;
      bring_to_rest(straight.machine());
      // What came at the same step behind it has been done by now, or lies behind the end of the log.
      if (straight.counts().events != point.events) continue;
      EXPECT_EQ(straight.machine().save_cpus(), point.machine.cpus) << "checkpoint at step " << point.step;
      EXPECT_EQ(straight.machine().save_devices(), point.machine.devices)
          << "checkpoint at step " << point.step;
    }
  }

  // Inputs of every kind that the guest answers to, for some seconds.
  static Plan usual_plan() {
    Plan plan;
    const auto type = [&](u64 ms, const char* text) {
      plan.inputs.emplace_back(ms * kMs, input::SerialBytes{0, text});
    };
    type(100, "hello"), type(300, "b"), type(700, "xyz");
    plan.inputs.emplace_back(900 * kMs, input::Mark{"a mark"});
    type(1200, "b"), type(1500, "r"), type(1900, "again"), type(2300, "b");
    plan.inputs.emplace_back(2800 * kMs, input::Quit{false, "test"});
    return plan;
  }

  // One fault of the kind at each operation on each kind of file that the plan brings; or at every
  // `stride`th.
  void strike_everywhere(Plan plan, DiskFault::Kind kind, u64 stride = 1) {
    for (const FileKind file : kFileKinds) {
      for (u64 at = static_cast<u64>(kind) % stride;; at += stride) {
        plan.faults = {{kind, file, at, 1}};
        plan.disk_seed = at + 1;
        if (!simulate(plan, "one fault") || HasFailure()) break;
      }
    }
  }
  static u64 window_stride() { return number_in_environment("DEJA_SESSIONS", 0) ? 1 : 4; }

  u64 moves_ = 0;  // sessions whose window has moved on
};

Plan with_window(Plan plan) {
  plan.keep_ns = 600 * kMs;
  return plan;
}

TEST_F(SessionFaultsTest, WhatHasEndedSurvivesACrash) {
  for (u64 seed = 1; seed <= 8; ++seed) {
    Plan plan = seed % 2 ? with_window(usual_plan()) : usual_plan();
    plan.crash_afterwards = true;
    plan.disk_seed = seed;
    EXPECT_FALSE(simulate(plan, "a crash afterwards"));
  }
}

TEST_F(SessionFaultsTest, WithoutAFaultAllIsOnRecord) {
  EXPECT_FALSE(simulate(usual_plan(), "no fault"));
  EXPECT_FALSE(simulate(with_window(usual_plan()), "no fault, with a window"));
  EXPECT_EQ(moves_, 1u) << "its window has moved on";
}

TEST_F(SessionFaultsTest, ARecorderIsKilledAtAnyOperation) {
  strike_everywhere(usual_plan(), DiskFault::Kind::kill);
}

TEST_F(SessionFaultsTest, AFlightRecorderIsKilledAtAnyOperation) {
  strike_everywhere(with_window(usual_plan()), DiskFault::Kind::kill, window_stride());
}

TEST_F(SessionFaultsTest, TheHostCrashesAtAnyOperation) {
  strike_everywhere(usual_plan(), DiskFault::Kind::power_loss);
}

TEST_F(SessionFaultsTest, TheHostOfAFlightRecorderCrashesAtAnyOperation) {
  strike_everywhere(with_window(usual_plan()), DiskFault::Kind::power_loss, window_stride());
}

TEST_F(SessionFaultsTest, TheDiskFailsAtAnyOperation) {
  strike_everywhere(usual_plan(), DiskFault::Kind::io_error);
}

TEST_F(SessionFaultsTest, TheDiskOfAFlightRecorderFailsAtAnyOperation) {
  strike_everywhere(with_window(usual_plan()), DiskFault::Kind::io_error, window_stride());
}

TEST_F(SessionFaultsTest, TheDiskIsFullAtAnyOperation) {
  Plan plan = usual_plan();
  plan.interactive = true;
  strike_everywhere(plan, DiskFault::Kind::no_room);
}

// --- Random sessions
// -------------------------------------------------------------------------------------------

class Draw {
 public:
  explicit Draw(u64 seed) : random_(seed) {}
  u64 below(u64 n) { return random_() % n; }
  bool one_in(u64 n) { return below(n) == 0; }

 private:
  std::mt19937_64 random_;
};

HostInput draw_input(Draw& draw) {
  static constexpr const char* kTyped[] = {"a", "b", "r", "t", "some words\n", "q"};
  switch (draw.below(16)) {
    case 0:
      return input::Mark{"mark"};
    case 1:
      return input::Pause{};
    case 2:
    case 3:
      return input::Resume{};
    case 4:
      return input::SerialBreak{0};
    case 5:
      return input::NmiButton{};
    case 6:
      return input::ResetButton{};
    default:
      // 'q' ends the guest: seldom.
      return input::SerialBytes{0, kTyped[draw.below(draw.one_in(8) ? 6 : 5)]};
  }
}

DiskFault draw_fault(Draw& draw) {
  constexpr u64 kSoon = 40;
  DiskFault fault;
  fault.kind = static_cast<DiskFault::Kind>(draw.below(4));
  fault.file = kFileKinds[draw.below(kFileKinds.size())];
  fault.at = draw.below(fault.file == FileKind::manifest ? 4 : kSoon);
  fault.length = draw.one_in(4) ? 1'000'000 : 1 + draw.below(6);
  return fault;
}

Plan draw_plan(u64 seed) {
  Draw draw(seed);
  Plan plan;
  u64 at = 0;
  for (u64 left = 3 + draw.below(12); left; --left)
    plan.inputs.emplace_back(at += draw.below(400 * kMs), draw_input(draw));
  plan.inputs.emplace_back(at + draw.below(600 * kMs), input::Quit{draw.one_in(2), "test"});
  for (u64 left = draw.below(4); left; --left) plan.faults.push_back(draw_fault(draw));
  if (draw.one_in(3)) plan.keep_ns = (200 + draw.below(800)) * kMs;
  plan.checkpoint_interval = draw.one_in(5) && !plan.keep_ns ? 0 : 200'000 + draw.below(2'000'000);
  if (draw.one_in(4)) plan.chaos = draw.below(1000);
  plan.interactive = draw.one_in(2);
  if (draw.one_in(3)) {
    plan.terminal_bytes_per_ms = draw.below(4);
    plan.stuck_from = draw.below(kSecond);
    plan.stuck_to = plan.stuck_from + draw.below(kSecond);
  }
  plan.disk_seed = seed;
  plan.crash_afterwards = draw.one_in(2);
  return plan;
}

TEST_F(SessionFaultsTest, RandomSessions) {
  const u64 only = number_in_environment("DEJA_SEED", 0);
  const u64 sessions = only ? 1 : number_in_environment("DEJA_SESSIONS", kUsualSessions);
  const u64 first = only ? only : static_cast<u64>(RealHostClock().wall_unix_ns());
  for (u64 seed = first; seed < first + sessions; ++seed) {
    simulate(draw_plan(seed), fmt::format("DEJA_SEED={}", seed));
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace deja
