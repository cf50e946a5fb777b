// Sessions with a small guest, a fake clock and scripted inputs: what is recorded, and that it replays.
#include "replay/session_for_test.h"

#include "replay/bisect.h"
#include "replay/machine_report.h"
#include "replay/position.h"
#include "replay/session_recorder.h"
#include "replay/survey.h"

namespace deja {
namespace {

TEST_F(SessionTest, IdleGuestKeepsPaceWithTheHost) {
  quit(5000);
  const event::End end = run(nullptr);
  EXPECT_EQ(end.reason, event::EndReason::quit);
  // 100 interrupts a second, each edge of the PIT's output an event.
  EXPECT_NEAR(static_cast<double>(warps_), 1000, 10);
  EXPECT_NEAR(static_cast<double>(machine_->now()) / 1e6, 5000, 11);
}

TEST_F(SessionTest, IdleGuestSleepsAlsoWhenItIsNotRecorded) {
  type(10, "t");  // no timer any more
  quit(60'000);
  run(nullptr);
  EXPECT_LT(clock_.looks, 200'000u);
}

TEST_F(SessionTest, GuestThatRanAheadGoesOnAtOnceAndSleepsItsLeadOffLater) {
  // 100 million instructions: 0.1 s of the guest's time, next to none of this host's.
  clock_.tick_ns = 1;
  type(100, std::string(50, 'b'));
  quit(150);
  run(nullptr);
  EXPECT_NEAR(static_cast<double>(machine_->now()) / 1e6, 200 + 50 / 1.125, 15);
  clock_.now_ns = 0;
  type(100, std::string(50, 'b'));
  quit(5000);
  run(nullptr);
  EXPECT_NEAR(static_cast<double>(machine_->now()) / 1e6, 5000, 11);
}

TEST_F(SessionTest, InputWakesAnIdleGuestAtItsOwnTime) {
  VectorSink sink;
  type(3003, "x");
  quit(3500);
  run(&sink);
  EXPECT_EQ(console(), "x");
  const auto cuts = only<event::IdleCut>(sink.events);
  ASSERT_EQ(cuts.size(), 1u);
  EXPECT_LT(std::get<event::IdleCut>(cuts[0].body).warp_ns, 10 * kMs);
  const auto bytes = only<input::SerialBytes>(sink.events);
  ASSERT_EQ(bytes.size(), 1u);
  EXPECT_EQ(bytes[0].step, cuts[0].step + 1);  // the sleep is a step
}

TEST_F(SessionTest, WithoutATimerOnlyInputWakes) {
  VectorSink sink;
  type(100, "t");
  type(60'000, "x");
  type(60'001, "q");
  const event::End end = run(&sink);
  EXPECT_EQ(end, (event::End{event::EndReason::debug_exit, 5, ""}));
  EXPECT_EQ(machine_->exit_status(), 11u);
  EXPECT_EQ(console(), "txq");
  EXPECT_NEAR(static_cast<double>(machine_->now()) / 1e6, 60'001, 20);
}

TEST_F(SessionTest, PauseStopsGuestTime) {
  VectorSink sink;
  inputs_.add(1000 * kMs, input::Pause{});
  type(2000, "x");  // waits at the host
  inputs_.add(11'000 * kMs, input::Resume{});
  quit(12'000);
  run(&sink);
  EXPECT_NEAR(static_cast<double>(machine_->now()) / 1e6, 2000, 15);
  EXPECT_EQ(console(), "x");
  const auto resume = only<input::Resume>(sink.events), bytes = only<input::SerialBytes>(sink.events);
  ASSERT_TRUE(resume.size() == 1 && bytes.size() == 1);
  EXPECT_GE(bytes[0].step, resume[0].step);
}

TEST_F(SessionTest, DigestsAtMultiplesAndAtTheEnd) {
  VectorSink sink;
  type(10, "bb");
  type(50, "q");
  run(&sink);
  const auto digests = only<event::Digest>(sink.events);
  ASSERT_EQ(digests.size(), 5u);
  for (std::size_t i = 0; i + 1 < digests.size(); ++i) EXPECT_EQ(digests[i].step, (i + 1) * kTestDigests);
  EXPECT_EQ(digests.back().step, machine_->clock().steps);
}

TEST_F(SessionTest, ProgressOnceASecond) {
  VectorSink sink;
  quit(10'500);
  run(&sink);
  EXPECT_EQ(only<event::Progress>(sink.events).size(), 10u);
  EXPECT_EQ(only<event::WallClock>(sink.events).size(), 1u);
}

TEST_F(SessionTest, AFullDiskEndsAnUnattendedSession) {
  VectorSink sink;
  sink.capacity = 5;
  quit(60'000);
  const event::End end = run(&sink);
  EXPECT_EQ(end.reason, event::EndReason::host_error);
  EXPECT_EQ(end.detail, "fake disk is full");
  EXPECT_LT(machine_->now(), 10 * kSecond);
}

TEST_F(SessionTest, AFullDiskPausesAnAttendedSession) {
  VectorSink sink;
  sink.capacity = 5;
  sink.room_after = 20;
  quit(60'000);
  const event::End end = run(&sink, true);
  EXPECT_EQ(end.reason, event::EndReason::quit);
  ASSERT_EQ(notes_.size(), 3u);
  EXPECT_NE(notes_[1].find("paused"), std::string::npos);
  // It stood still for the twenty tries, one a second.
  EXPECT_NEAR(static_cast<double>(machine_->now()) / 1e9, 40, 1);
}

TEST_F(SessionTest, AGuestThatCannotStartEndsTheSession) {
  use(make_kernel(faulting_guest, faulting_guest_end));
  const event::End end = run(nullptr);
  EXPECT_EQ(end.reason, event::EndReason::shutdown);
  EXPECT_NE(end.detail, kTripleFault);
}

TEST_F(SessionTest, TripleFaultWithNoReboot) {
  use(make_kernel(faulting_guest, faulting_guest_end));
  setup_.spec.options[std::string(kRebootOption)] = "off";
  EXPECT_EQ(run(nullptr), (event::End{event::EndReason::shutdown, 0, std::string(kTripleFault)}));
}

TEST_F(SessionTest, ReplaysIdentically) {
  type(103, "hello b");
  type(107, "b");
  type(333, "r");
  inputs_.add(500 * kMs, input::ResetButton{});
  inputs_.add(500 * kMs, input::Pause{});
  inputs_.add(700 * kMs, input::Mark{"here"});
  inputs_.add(900 * kMs, input::Resume{});
  inputs_.add(905 * kMs, input::SerialBreak{0});
  inputs_.add(906 * kMs, input::PowerButton{});
  type(1200, "t again");
  type(9000, "bye q");
  const auto dir = record();
  const Step steps = machine_->clock().steps;
  const u64 instructions = instructions_retired(*machine_, warps_);
  for (const bool chaos : {false, true}) {
    engine_.chaos = {chaos, 7};
    const auto report = replay(dir);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_FALSE(report.value().divergence) << report.value().divergence_report;
    EXPECT_EQ(report.value().steps, steps);
    EXPECT_EQ(report.value().instructions, instructions);
    EXPECT_EQ(report.value().digests, digests_);
    EXPECT_EQ(report.value().note, "");
    EXPECT_EQ(replayed_console(), console());
  }
}

TEST_F(SessionTest, QuitWhileIdleReplaysToTheSameState) {
  quit(1234);
  const auto dir = record();
  const auto report = replay(dir);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_FALSE(report.value().divergence) << report.value().divergence_report;
}

TEST_F(SessionTest, ReplaysPartly) {
  type(10, "bb");
  type(500, "x");
  type(900, "q");
  const auto dir = record();
  const Step last = machine_->clock().steps;
  for (const auto& [to, step] :
       {std::pair<std::string, Step>{"start", 0}, {"1234567", 1'234'567}, {"50%", last / 2}, {"end", last}}) {
    const auto report = replay(dir, to);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(report.value().steps, step) << to;
    EXPECT_FALSE(report.value().divergence);
  }
  EXPECT_FALSE(replay(dir, "99999999999").ok());
}

TEST_F(SessionTest, ALostInputIsADivergence) {
  type(10, "b");
  type(500, "x");
  type(900, "b");
  type(1500, "q");
  const auto dir = record(true, [](const LogEvent& e) {
    const auto* s = std::get_if<input::SerialBytes>(&e.body);
    return s && s->bytes == "x";
  });
  const auto report = replay(dir);
  ASSERT_TRUE(report.ok()) << report.error().message;
  ASSERT_TRUE(report.value().divergence);
  const Divergence& d = *report.value().divergence;
  EXPECT_GT(d.step, d.last_good);
  EXPECT_NE(report.value().divergence_report.find("deja bisect"), std::string::npos);
  EXPECT_NE(report.value().divergence_report.find("vCPU 0"), std::string::npos);
  // Two engines agree about it: it is the recording.
  BisectRequest request;
  request.dir = dir;
  request.other.translate.max_insns = 1;
  request.to = d.step;
  const auto bisected = run_bisect(request);
  ASSERT_TRUE(bisected.ok()) << bisected.error().message;
  EXPECT_FALSE(bisected.value().differ) << bisected.value().text;
}

TEST_F(SessionTest, AKilledRecordingReplaysUpToItsEnd) {
  type(103, "hello");
  quit(3200);
  const auto dir = record(false);
  const auto report = replay(dir);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_FALSE(report.value().divergence);
  EXPECT_NE(report.value().note.find("recording incomplete"), std::string::npos);
  EXPECT_EQ(replayed_console(), "hello");
}

TEST_F(SessionTest, RecordingsOfAnotherBehaviourAreRefusedWithTheReason) {
  quit(500);
  const auto dir = record();
  RecordingManifest manifest = std::move(Recording::open(dir)).value().manifest;
  for (const auto& [version, reason] :
       {std::pair(9u, "a REP string instruction"), std::pair(8u, "has changed since"),
        std::pair(kMachineBehaviour + 1, "newer deja")}) {
    manifest.machine_version = version;
    spew(dir / kManifestFile, to_json(manifest));
    const auto refused = replay(dir);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find(fmt::format("version {}", version)), std::string::npos);
    EXPECT_NE(refused.error().message.find(reason), std::string::npos) << refused.error().message;
  }
}

TEST_F(SessionTest, ADamagedLogIsRefusedUnlessTheDamageIsNotReached) {
  type(10, "b");
  type(900, "x");
  quit(5000);
  const auto dir = record();
  const auto log = dir / "events.log";
  std::string bytes = slurp(log);
  bytes[bytes.size() - 3] ^= 1;
  spew(log, bytes);
  const auto refused = replay(dir);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("events.log: byte "), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("--to"), std::string::npos);
  for (const char* beyond : {"end", "100%"}) {
    const auto hidden = replay(dir, beyond);
    ASSERT_FALSE(hidden.ok()) << beyond;
    EXPECT_NE(hidden.error().message.find("events.log: byte "), std::string::npos) << hidden.error().message;
  }
  auto recording = Recording::open(dir);
  ASSERT_TRUE(recording.ok());
  const StepRange steps = steps_on_record(recording.value().manifest, survey_log(recording.value()));
  ASSERT_TRUE(steps.damage);
  EXPECT_EQ(steps.end, recording.value().manifest.end->final_step);
  EXPECT_LT(steps.last, *steps.end);
  const auto partly = replay(dir, std::to_string(steps.last));
  ASSERT_TRUE(partly.ok()) << partly.error().message;
  EXPECT_FALSE(partly.value().divergence);
  EXPECT_TRUE(partly.value().damage);
}

TEST(Position, OfADamagedRecordingMeansTheSameAsOfTheWholeOne) {
  const StepRange known{100, 400, Error{"damage"}, 900}, unknown{100, 400, Error{"damage"}, {}};
  EXPECT_EQ(parse_position("25%", known).value(), 300u);
  EXPECT_FALSE(parse_position("50%", known).ok()) << "step 500 is behind the damage";
  EXPECT_FALSE(parse_position("end", known).ok());
  EXPECT_EQ(parse_position("end", {100, 900, Error{"damage"}, 900}).value(), 900u);
  EXPECT_EQ(parse_position("start", unknown).value(), 100u);
  EXPECT_EQ(parse_position("400", unknown).value(), 400u);
  for (const char* hidden : {"25%", "end", "401"}) {
    const auto step = parse_position(hidden, unknown);
    ASSERT_FALSE(step.ok()) << hidden;
    EXPECT_NE(step.error().message.find("damage"), std::string::npos);
  }
}

TEST_F(SessionTest, DifferencesAreNamed) {
  auto config = machine_config(setup_, files_);
  const auto a = std::move(Machine::create(*config, {})).value();
  const auto b = std::move(Machine::create(*config, {})).value();
  a->run(20), b->run(20);
  EXPECT_EQ(describe_differences(*a, *b, 4), "");
  EXPECT_NE(describe_cpus(*a).find("vCPU 0, before"), std::string::npos);
  const u8 byte = 0xaa;
  ASSERT_TRUE(b->ram().write(Gpa(0x123458), &byte, 1));
  b->power_button();
  a->run(21);
  const std::string text = describe_differences(*a, *b, 4);
  EXPECT_NE(text.find("rip"), std::string::npos) << text;
  EXPECT_NE(text.find("RAM at 0x123458"), std::string::npos) << text;
  EXPECT_NE(text.find("device"), std::string::npos) << text;
}

TEST(CheckpointVolume, IsBoundedByHostTime) {
  constexpr u64 kHour = 3'600'000'000'000;
  u64 bytes = 0;
  for (u64 ns = 0; ns < kHour; ns += 500'000'000)
    if (may_take_checkpoint(bytes, ns)) bytes += 512_MiB;  // a guest that fills its memory again and again
  EXPECT_LE(bytes, kCheckpointBurst + 3600 * kCheckpointBytesPerSecond + 512_MiB);
  EXPECT_GE(bytes, kCheckpointBurst + 3599 * kCheckpointBytesPerSecond);
  EXPECT_TRUE(may_take_checkpoint(10_GiB, ~u64{0})) << "no overflow";
}

TEST(Position, Parses) {
  EXPECT_EQ(parse_position("start", {0, 500}).value(), 0u);
  EXPECT_EQ(parse_position("end", {0, 500}).value(), 500u);
  EXPECT_EQ(parse_position("10%", {0, 500}).value(), 50u);
  EXPECT_EQ(parse_position("100%", {0, ~u64{0}}).value(), ~u64{0});
  EXPECT_EQ(parse_position("1,234", {0, 5000}).value(), 1234u);
  EXPECT_EQ(parse_position("start", {200, 500}).value(), 200u);
  EXPECT_EQ(parse_position("50%", {200, 500}).value(), 350u);
  EXPECT_FALSE(parse_position("199", {200, 500}).ok());
  for (const char* bad : {"", "x", "-1", "101%", "501", "1.5", "99999999999999999999999", "%"})
    EXPECT_FALSE(parse_position(bad, {0, 500}).ok()) << bad;
  EXPECT_EQ(format_count(3214567890), "3,214,567,890");
  EXPECT_EQ(format_count(12), "12");
}

}  // namespace
}  // namespace deja
