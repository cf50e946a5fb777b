#include "replay/live_session.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "base/log.h"
#include "base/printable.h"
#include "checkpoint/checkpoint_format.h"
#include "replay/apply.h"

namespace deja {
namespace {

constexpr u64 kMillisecond = 1'000'000;
constexpr u64 kSecond = 1'000'000'000;
constexpr u64 kSliceNs = kMillisecond;
constexpr u64 kProgressNs = kSecond;
constexpr u64 kRetryNs = kSecond;  // a disk that refused
constexpr Step kMinSlice = 1000, kMaxSlice = 20'000'000;
constexpr u64 kLeadShare = 8;
constexpr i64 kWallClockSet = 500'000'000;  // the host's date jumped; NTP's slewing is slower
constexpr Step kStillbornSteps = 100'000;   // a guest that resets itself before this has not started
constexpr u64 kStillbornLimit = 20;
// Of the guest's time: a session that ends after a text ends when nothing was said for so long, or after so
// long.
constexpr u64 kSilenceNs = 100 * kMillisecond, kLastWordsNs = 2 * kSecond;

}  // namespace

LiveSession::LiveSession(Machine& machine, InputSource& inputs, SerialOutput& output, HostClock& clock,
                         EventSink* sink, Notify notify, LiveOptions options)
    : machine_(machine),
      inputs_(inputs),
      output_(output),
      clock_(clock),
      sink_(sink),
      notify_(std::move(notify)),
      options_(std::move(options)),
      events_(options_.before.events),
      sent_(options_.sent_before),
      warps_(options_.before.warps),
      seen_resets_(machine.resets()) {
  machine_.on_serial([this](u8 byte) { text_[0].push_back(static_cast<char>(byte)); });
  machine_.on_console([this](u8 byte) { text_[1].push_back(static_cast<char>(byte)); });
  machine_.on_command([this](const GuestCommand& command) { commands_.push_back(command); });
  for (const EndCondition& c : options_.until)
    if (c.kind == EndCondition::Kind::serial) watched_.push_back({c, TextWatch(c.text)});
  machine_.on_frame([this](std::string_view frame) { output_.send_frame(frame); });
}

event::End LiveSession::run() {
  started_ns_ = clock_.monotonic_ns() - options_.before_host_ns;
  pace_ns_ = static_cast<i64>(clock_.monotonic_ns() - machine_.clock().now());
  if (sink_) watch_clocks();
  log(event::WallClock{clock_.wall_unix_ns()});

  while (!end_) {
    if (clock_.monotonic_ns() >= next_poll_ns_) take_inputs();
    if (end_) break;
    if (standing_still() || output_.backlogged())
      hold();
    else
      run_slice();
    housekeeping();
  }

  show_output();
  // A machine that waits for the host is between two states.
  if (sink_ && machine_.clock().steps > 0 && !machine_.trouble()) take_digest();
  return *end_;
}

// A recording begins: what is to be written to it now and then.
void LiveSession::watch_clocks() {
  const u64 now = clock_.monotonic_ns();
  next_progress_ns_ = now + kProgressNs;
  next_digest_ = next_multiple(options_.digest_interval);
  if (options_.checkpoint) {
    next_checkpoint_ = next_multiple(options_.checkpoint_interval);
    if (options_.checkpoint_interval_ns) next_checkpoint_ns_ = now;
  }
  wall_minus_monotonic_ = clock_.wall_unix_ns() - static_cast<i64>(now);
}

VtimeNs LiveSession::paced_now() const {
  const i64 ns = static_cast<i64>(clock_.monotonic_ns()) - pace_ns_ + lead_aside_ns_;
  return ns > 0 ? static_cast<VtimeNs>(ns) : 0;
}

void LiveSession::run_slice() {
  idle_ = false;
  const Step before = machine_.clock().steps;
  const u64 begin = clock_.monotonic_ns();
  const MachineStop stop = machine_.run(std::min(before + slice_, next_digest_));
  show_output();
  for (const GuestCommand& command : std::exchange(commands_, {})) obey(command);
  const Step ran = machine_.clock().steps - before;
  if (ran >= kMinSlice) {
    const u64 took = std::max<u64>(clock_.monotonic_ns() - begin, 1);
    const Step fitting = static_cast<Step>(u128{ran} * kSliceNs / took);
    // Halfway there each time: one slow slice (translation, a busy host) should not make the next ones tiny.
    slice_ = std::clamp((slice_ + fitting) / 2, kMinSlice, kMaxSlice);
  }
  if (stop == MachineStop::trouble) return trouble(*machine_.trouble());
  if (machine_.clock().steps == next_digest_) {
    take_digest();
    next_digest_ += options_.digest_interval;
  }
  if (machine_.clock().steps >= next_checkpoint_ && stop != MachineStop::ended) take_checkpoint();
  if (stop == MachineStop::ended) return machine_ended();
  watch_resets();
  watch_for_silence(stop == MachineStop::idle && machine_.next_deadline() == kNeverNs);
  if (stop == MachineStop::idle && !end_) {
    idle_ = true;
    idle();
  }
}

void LiveSession::idle() {
  const VtimeNs deadline = machine_.next_deadline();
  const bool timed = deadline != kNeverNs;
  set_lead_aside(timed ? deadline - machine_.now() : 0);
  if (timed && deadline <= paced_now()) return warp(machine_.warp_to_deadline());

  const u64 deadline_host =
      timed ? static_cast<u64>(pace_ns_ - lead_aside_ns_ + static_cast<i64>(deadline)) : kNeverNs;
  const bool woken = inputs_.wait_until(std::min(deadline_host, next_progress_ns_), room());
  // A deadline that has come goes before an input that came with it.
  if (timed && deadline <= paced_now()) return warp(machine_.warp_to_deadline());
  if (woken) take_inputs();
}

// A guest that computes faster than its clock's nominal rate gets ahead of the host's time. Its sleeps make
// up for that, each by lasting an eighth longer at most: to sit out the whole lead at once would keep those
// waiting who wait for the guest's answer. Done once for each sleep.
void LiveSession::set_lead_aside(u64 sleep_ns) {
  const Step step = machine_.clock().steps;
  if (std::exchange(asleep_since_, step) == step) return;
  const i64 lead = static_cast<i64>(machine_.now()) - (static_cast<i64>(clock_.monotonic_ns()) - pace_ns_);
  lead_aside_ns_ = std::max<i64>(0, lead - static_cast<i64>(sleep_ns / kLeadShare));
}

void LiveSession::warp(u64 ns) {
  machine_.warp(ns);
  ++warps_;
  idle_ = false;
}

// The guest has slept until now, and an input is about to wake it.
void LiveSession::cut_idle() {
  const Clock& clock = machine_.clock();
  const VtimeNs slept_until = std::min(paced_now(), machine_.next_deadline());
  const VtimeNs after = clock.at(clock.steps + 1);  // the warp is itself a step
  if (slept_until <= after) return;
  const u64 ns = slept_until - after;
  log(event::IdleCut{ns});
  warp(ns);
}

void LiveSession::take_inputs() {
  next_poll_ns_ = clock_.monotonic_ns() + kMillisecond;
  for (const HostInput& input : inputs_.poll(room())) {
    handle(input);
    if (end_) return;
  }
}

void LiveSession::handle(const HostInput& input) {
  if (const auto* quit = std::get_if<input::Quit>(&input)) {
    return finish(quit->by_signal ? event::EndReason::signal : event::EndReason::quit, 0, quit->reason);
  }
  if (std::holds_alternative<input::Pause>(input)) {
    if (paused_) return;
    paused_ = true;
    stand_still_since_ns_ = clock_.monotonic_ns();
  } else if (std::holds_alternative<input::Resume>(input)) {
    if (!paused_) return;
    paused_ = false;
    go_on();
  }
  const EventBody body = *to_event(input);
  if (reaches_machine(body)) {
    if (idle_ && !standing_still()) cut_idle();
    idle_ = false;
    bring_to_rest(machine_);
    if (machine_.trouble()) {
      held_.push_back(input);
      return trouble(*machine_.trouble());
    }
  }
  log(body);
  apply_event(machine_, body);
}

InputRoom LiveSession::room() {
  if (standing_still()) return {};
  room_ = {machine_.serial_room(), machine_.console_room()};
  return {room_, machine_.frame_room()};
}

void LiveSession::go_on() {
  if (standing_still()) return;
  stood_still_since(stand_still_since_ns_);
  next_poll_ns_ = 0;
}

// Host time that passes while the machine stands still is not made up for.
void LiveSession::stood_still_since(u64 ns) {
  if (!standing_still()) pace_ns_ += static_cast<i64>(clock_.monotonic_ns() - ns);
}

void LiveSession::hold() {
  const u64 now = clock_.monotonic_ns();
  const bool backlogged = output_.backlogged();
  u64 wake = next_progress_ns_;
  if (in_trouble_) wake = std::min(wake, next_retry_ns_);
  if (backlogged && !in_trouble_) {
    // The host takes output slower than the guest makes it, or refuses it.
    if (Status status = output_.drain(0); !status && output_.backlogged())
      trouble(status.error());
    else if (!status)
      notify_(status.error().message);
    if (!output_.backlogged()) return;
  }
  if (end_) return;
  if (in_trouble_ && now >= next_retry_ns_) {
    next_retry_ns_ = now + kRetryNs;
    bring_to_rest(machine_);
    if ((!sink_ || sink_->flush()) && output_.drain(0) && !output_.backlogged() && !machine_.trouble()) {
      in_trouble_ = false;
      notify_("the host does what is asked of it again; the machine goes on");
      go_on();
      for (const HostInput& input : std::exchange(held_, {})) handle(input);
      return;
    }
  }
  inputs_.wait_until(wake, {});
  next_poll_ns_ = 0;
}

// The host refuses what must be written: the guest must not get any further than what is on record.
void LiveSession::trouble(const Error& error) {
  if (in_trouble_ || end_) return;
  if (!options_.interactive) {
    notify_(error.message);
    return finish(event::EndReason::host_error, 0, error.message);
  }
  if (!paused_) stand_still_since_ns_ = clock_.monotonic_ns();
  in_trouble_ = true;
  next_retry_ns_ = clock_.monotonic_ns() + kRetryNs;
  notify_(error.message);
  notify_("the machine is paused until that works (tried once a second); Ctrl-A x ends the session");
}

void LiveSession::show_output() {
  for (std::size_t i = 0; i < text_.size(); ++i) {
    const u8 port = static_cast<u8>(i);
    if (text_[port].empty()) continue;
    if (port == 0 && sink_ && options_.checkpoint) add_serial_text(sent_, text_[port]);
    if (port == 0) watch_output(text_[port]);
    output_.write(port, text_[port]);
    text_[port].clear();
  }
}

void LiveSession::obey(const GuestCommand& command) {
  switch (command.kind) {
    case GuestCommand::Kind::mark:
      log(input::Mark{command.text});
      for (const EndCondition& c : options_.until)
        if (c.kind == EndCondition::Kind::mark && c.text == command.text)
          finish(event::EndReason::quit, 0, show("--until {}", c.spelling));
      break;
    case GuestCommand::Kind::record_start:
      obey_record_start(command.text);
      break;
    case GuestCommand::Kind::record_stop:
      if (sink_) {
        if (auto told = stop_recording("a program in the guest"))
          notify_("the guest has ended the recording: " + *told);
      }
      break;
    case GuestCommand::Kind::exit:
      break;  // the machine has ended
    case GuestCommand::Kind::marks_refused:
      if (!std::exchange(told_of_marks_, true))
        notify_(
            "the guest sets so many marks that some are refused from here on (docs/guest-control.md); "
            "--guest-control off lets it set none");
      break;
  }
}

// A guest can ask as often as it likes: what it may not, or has already, is told once or not at all.
void LiveSession::obey_record_start(const std::string& name) {
  if (!options_.guest_may_record) {
    if (!std::exchange(told_not_to_record_, true))
      notify_("the guest asks for a recording, which it may not begin: --guest-control record allows that");
    return;
  }
  if (sink_ || end_) return log_info("guest-control", "a recording is being made already");
  auto told = start_recording(name);
  if (told)
    notify_("the guest has begun a recording: " + *told);
  else if (!std::exchange(told_not_to_record_, true))
    notify_(show("the guest asks for a recording, and there is none: {}", told.error().message));
}

Result<std::string> LiveSession::start_recording(const std::string& name) {
  if (!options_.begin_recording) return make_error("this session cannot begin recordings");
  if (sink_) return make_error("a recording is being made already: {}", sink_->describe());
  bring_to_rest(machine_);
  if (machine_.trouble()) return *machine_.trouble();
  if (end_ || machine_.end() != MachineEnd::none) return make_error("the session is ending");
  events_ = digests_ = 0;
  const u64 began_ns = clock_.monotonic_ns();
  DEJA_ASSIGN(EventSink* const sink,
              options_.begin_recording({name, counts(), instructions(), began_ns - started_ns_}));
  stood_still_since(began_ns);
  sink_ = sink;
  sent_.clear();
  last_checkpoint_ = machine_.clock().steps;
  watch_clocks();
  log(event::Progress{clock_.monotonic_ns() - started_ns_});
  log(event::WallClock{clock_.wall_unix_ns()});
  take_digest();
  return sink_ ? sink_->describe() : "";
}

Result<std::string> LiveSession::stop_recording(const std::string& who) {
  if (!sink_) return make_error("no recording is being made");
  // A machine that waits for the host is between two states.
  if (!machine_.trouble()) take_digest();
  if (end_) return make_error("the session is ending");
  const u64 began_ns = clock_.monotonic_ns();
  std::string told = options_.recording_stopped({event::EndReason::quit, 0, who + " ended the recording"});
  stood_still_since(began_ns);
  sink_ = nullptr;
  next_digest_ = next_checkpoint_ = kNeverStep;
  next_progress_ns_ = next_checkpoint_ns_ = kNeverNs;
  return told;
}

void LiveSession::watch_output(std::string_view text) {
  spoke_at_ = machine_.now();
  for (Watched& w : watched_) {
    if (!w.watch.seen_in(text) || !said_.empty()) continue;
    said_ = w.condition.spelling;
    said_at_ = spoke_at_;
  }
}

// What follows a panic is worth as much as the line that was waited for.
void LiveSession::watch_for_silence(bool idle_for_good) {
  if (said_.empty()) return;
  const VtimeNs now = machine_.now();
  if (idle_for_good || now - spoke_at_ >= kSilenceNs || now - said_at_ >= kLastWordsNs)
    finish(event::EndReason::quit, 0, show("--until {}", said_));
}

void LiveSession::housekeeping() {
  if (!sink_ || end_) return;
  if (Status status = sink_->tick(); !status) trouble(status.error());
  if (clock_.monotonic_ns() >= next_checkpoint_ns_ && !standing_still() &&
      machine_.clock().steps > last_checkpoint_)
    take_checkpoint();
  // After it: the log must not say less than the flight recorder's moments.
  const u64 now = clock_.monotonic_ns();
  if (now < next_progress_ns_) return;
  next_progress_ns_ = now + kProgressNs;
  const i64 wall_minus_monotonic = clock_.wall_unix_ns() - static_cast<i64>(now);
  if (std::llabs(wall_minus_monotonic - wall_minus_monotonic_) > kWallClockSet) {
    wall_minus_monotonic_ = wall_minus_monotonic;
    log(event::WallClock{clock_.wall_unix_ns()});
  }
  log(event::Progress{now - started_ns_});
}

void LiveSession::take_digest() {
  bring_to_rest(machine_);
  const MachineDigest d = machine_.digest();
  ++digests_;
  log(event::Digest{d.cpu, d.ram, d.devices});
  last_digest_ = machine_.clock().steps;
  events_at_digest_ = events_;
}

void LiveSession::take_checkpoint() {
  bring_to_rest(machine_);
  const bool digested = last_digest_ == machine_.clock().steps && events_at_digest_ == events_;
  if (options_.checkpoint_interval_ns && !digested) take_digest();
  const bool taken = options_.checkpoint(counts(), sent_);
  if (taken) {
    sent_.clear();
    last_checkpoint_ = machine_.clock().steps;
  }
  // Where digests are taken as well, so that the bookkeeping of writes is done once for both.
  const Step interval = options_.checkpoint_interval;
  next_checkpoint_ = taken ? next_multiple(interval) : machine_.clock().steps + interval / 8 + 1;
  if (const u64 ns = options_.checkpoint_interval_ns)
    next_checkpoint_ns_ = clock_.monotonic_ns() + (taken ? ns : ns / 8);
}

SessionCounts LiveSession::counts() const {
  return {events_, warps_, options_.before.deliveries + machine_.engine().counters().faults};
}

u64 LiveSession::instructions() const {
  return instructions_retired(machine_, warps_) - options_.before.deliveries;
}

void LiveSession::log(const EventBody& body) {
  if (!sink_) return;
  ++events_;
  if (Status status = sink_->append({machine_.clock().steps, body}); !status) trouble(status.error());
}

void LiveSession::finish(event::EndReason reason, u32 code, std::string detail) {
  if (!end_) end_ = event::End{reason, code, std::move(detail)};
}

void LiveSession::machine_ended() {
  using enum event::EndReason;
  switch (machine_.end()) {
    case MachineEnd::power_off:
      return finish(power_off);
    case MachineEnd::debug_exit:
      // isa-debug-exit makes the status (value << 1) | 1; the log holds the value.
      return finish(debug_exit, machine_.exit_status() >> 1);
    case MachineEnd::reset:
      return finish(reset, 0, "the guest reset the machine");
    case MachineEnd::triple_fault:
      return finish(shutdown, 0, std::string(kTripleFault));
    case MachineEnd::guest_exit:
      return finish(power_off, machine_.exit_status(), "a program in the guest asked for it");
    case MachineEnd::none:
      break;
  }
  DEJA_UNREACHABLE("the machine ended for no reason");
}

// A guest that cannot even start is reset again and again; nobody waits for the thousandth time.
void LiveSession::watch_resets() {
  const u64 resets = machine_.resets();
  if (resets == seen_resets_) return;
  const Step steps = machine_.clock().steps;
  const bool at_once = steps - last_reset_step_ < (resets - seen_resets_) * kStillbornSteps;
  stillborn_ = at_once ? stillborn_ + (resets - seen_resets_) : 0;
  seen_resets_ = resets;
  last_reset_step_ = steps;
  if (stillborn_ >= kStillbornLimit)
    finish(event::EndReason::shutdown, 0,
           "the guest resets itself right after every start (a triple fault?): is this kernel made for this "
           "machine?");
}

std::string LiveSession::status() {
  const Clock& clock = machine_.clock();
  const char* state = paused_       ? "paused"
                      : in_trouble_ ? "paused: the host refuses to read or write"
                      : idle_       ? "idle"
                                    : "running";
  std::string text = show("{} at step {}, virtual time {:.3f} s, host time {:.3f} s\n", state, clock.steps,
                          static_cast<double>(clock.now()) / 1e9, static_cast<double>(host_ns()) / 1e9);
  if (sink_) text += show("recording: {}, {} digests\n", sink_->describe(), digests_);
  if (machine_.resets()) text += show("the guest has been reset {} times\n", machine_.resets());
  return text;
}

u64 instructions_retired(Machine& machine, u64 warps) {
  return machine.clock().steps - warps - machine.stalls() - machine.engine().counters().faults;
}

}  // namespace deja
