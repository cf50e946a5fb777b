#include "replay/live_session.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/printable.h"
#include "checkpoint/checkpoint_format.h"
#include "replay/apply.h"

namespace deja {
namespace {

constexpr u64 kPollNs = 1'000'000;  // between two looks for inputs

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
      pace_(clock),
      still_(clock),
      schedule_(clock, {options_.digest_interval, options_.checkpoint ? options_.checkpoint_interval : 0,
                        options_.checkpoint_interval_ns}),
      end_watch_(options_.until, machine.resets()),
      events_(options_.before.events),
      sent_(options_.sent_before),
      warps_(options_.before.warps) {
  machine_.on_serial([this](u8 byte) { text_[0].push_back(static_cast<char>(byte)); });
  machine_.on_console([this](u8 byte) { text_[1].push_back(static_cast<char>(byte)); });
  machine_.on_command([this](const GuestCommand& command) { commands_.push_back(command); });
  machine_.on_frame([this](std::string_view frame) { output_.send_frame(frame); });
}

event::End LiveSession::run() {
  pace_.begin(machine_.now(), options_.before_host_ns);
  if (sink_) schedule_.begin(machine_.clock().steps);
  log(event::WallClock{clock_.wall_unix_ns()});

  while (!end_) {
    if (clock_.monotonic_ns() >= next_poll_ns_) take_inputs();
    if (end_) break;
    if (still_ || output_.backlogged())
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

void LiveSession::run_slice() {
  idle_ = false;
  const Step before = machine_.clock().steps;
  const u64 began_ns = clock_.monotonic_ns();
  const MachineStop stop = machine_.run(std::min(before + slice_.steps(), schedule_.next_digest()));
  show_output();
  for (const GuestCommand& command : std::exchange(commands_, {})) obey(command);
  slice_.ran(machine_.clock().steps - before, clock_.monotonic_ns() - began_ns);
  if (stop == MachineStop::trouble) return trouble(*machine_.trouble());
  if (schedule_.digest_due(machine_.clock().steps)) {
    take_digest();
    schedule_.digest_taken();
  }
  if (stop == MachineStop::ended) return finish(end_of(machine_));
  if (schedule_.checkpoint_due_by_step(machine_.clock().steps)) take_checkpoint();
  finish(end_watch_.after_resets(machine_.resets(), machine_.clock().steps));
  const bool is_idle = stop == MachineStop::idle;
  finish(end_watch_.after_last_words(machine_.now(), is_idle && machine_.next_deadline() == kNeverNs));
  if (is_idle && !end_) {
    idle_ = true;
    idle();
  }
}

void LiveSession::idle() {
  const VtimeNs deadline = machine_.next_deadline();
  const bool timed = deadline != kNeverNs;
  pace_.fall_asleep(machine_.clock().steps, machine_.now(), timed ? deadline - machine_.now() : 0);
  if (timed && deadline <= pace_.now()) return warp(machine_.warp_to_deadline());

  const u64 deadline_host = timed ? pace_.host_time_of(deadline) : kNeverNs;
  const bool woken = inputs_.wait_until(std::min(deadline_host, schedule_.next_progress_ns()), room());
  // A deadline that has come goes before an input that came with it.
  if (timed && deadline <= pace_.now()) return warp(machine_.warp_to_deadline());
  if (woken) take_inputs();
}

void LiveSession::warp(u64 ns) {
  machine_.warp(ns);
  ++warps_;
  idle_ = false;
}

// The guest has slept until now, and an input is about to wake it.
void LiveSession::cut_idle() {
  const Clock& clock = machine_.clock();
  const VtimeNs slept_until = std::min(pace_.now(), machine_.next_deadline());
  const VtimeNs after = clock.at(clock.steps + 1);  // the warp is itself a step
  if (slept_until <= after) return;
  const u64 ns = slept_until - after;
  log(event::IdleCut{ns});
  warp(ns);
}

void LiveSession::take_inputs() {
  next_poll_ns_ = clock_.monotonic_ns() + kPollNs;
  for (const HostInput& input : inputs_.poll(room())) {
    handle(input);
    if (end_) return;
  }
}

void LiveSession::handle(const HostInput& input) {
  if (const auto* quit = std::get_if<input::Quit>(&input)) {
    const auto reason = quit->by_signal ? event::EndReason::signal : event::EndReason::quit;
    return finish(event::End{reason, 0, quit->reason});
  }
  if (std::holds_alternative<input::Pause>(input)) {
    if (!still_.pause()) return;
  } else if (std::holds_alternative<input::Resume>(input)) {
    if (!still_.resume()) return;
    go_on();
  }
  const EventBody body = *to_event(input);
  if (reaches_machine(body)) {
    if (idle_ && !still_) cut_idle();
    idle_ = false;
    bring_to_rest(machine_);
    if (machine_.trouble()) {
      still_.hold(input);
      return trouble(*machine_.trouble());
    }
  }
  log(body);
  apply_event(machine_, body);
}

InputRoom LiveSession::room() {
  if (still_) return {};
  room_ = {machine_.serial_room(), machine_.console_room()};
  return {room_, machine_.frame_room()};
}

void LiveSession::go_on() {
  if (still_) return;
  stood_still_since(still_.since_ns());
  next_poll_ns_ = 0;
}

// Host time that passes while the machine stands still is not made up for.
void LiveSession::stood_still_since(u64 ns) {
  if (!still_) pace_.stood_still_since(ns);
}

void LiveSession::hold() {
  const u64 wake = std::min(schedule_.next_progress_ns(), still_.next_retry_ns());
  if (output_.backlogged() && !still_.in_trouble()) {
    drain_output();
    if (!output_.backlogged()) return;
  }
  if (end_) return;
  if (still_.takes_retry()) ask_host_again();
  if (!still_ && !output_.backlogged()) return;
  inputs_.wait_until(wake, {});
  next_poll_ns_ = 0;
}

// The host takes output slower than the guest makes it, or refuses it.
void LiveSession::drain_output() {
  const Status status = output_.drain(0);
  if (status) return;
  if (output_.backlogged())
    trouble(status.error());
  else
    notify_(status.error().message);
}

void LiveSession::ask_host_again() {
  bring_to_rest(machine_);
  if (sink_ && !sink_->flush()) return;
  if (!output_.drain(0) || output_.backlogged() || machine_.trouble()) return;
  still_.end_trouble();
  notify_("the host does what is asked of it again; the machine goes on");
  go_on();
  for (const HostInput& input : still_.take_held()) handle(input);
}

// The host refuses what must be written: the guest must not get any further than what is on record.
void LiveSession::trouble(const Error& error) {
  if (still_.in_trouble() || end_) return;
  notify_(error.message);
  if (!options_.interactive) return finish(event::End{event::EndReason::host_error, 0, error.message});
  still_.begin_trouble();
  notify_("the machine is paused until that works (tried once a second); Ctrl-A x ends the session");
}

void LiveSession::show_output() {
  for (std::size_t i = 0; i < text_.size(); ++i) {
    const u8 port = static_cast<u8>(i);
    if (text_[port].empty()) continue;
    if (port == 0 && sink_ && options_.checkpoint) add_serial_text(sent_, text_[port]);
    if (port == 0) end_watch_.hear(text_[port], machine_.now());
    output_.write(port, text_[port]);
    text_[port].clear();
  }
}

void LiveSession::obey(const GuestCommand& command) {
  switch (command.kind) {
    case GuestCommand::Kind::mark:
      log(input::Mark{command.text});
      finish(end_watch_.at_mark(command.text));
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
              options_.begin_recording({name, counts(), instructions(), pace_.host_ns_at(began_ns)}));
  stood_still_since(began_ns);
  sink_ = sink;
  sent_.clear();
  schedule_.begin(machine_.clock().steps);
  log(event::Progress{pace_.host_ns()});
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
  schedule_.end();
  return told;
}

void LiveSession::housekeeping() {
  if (!sink_ || end_) return;
  if (Status status = sink_->tick(); !status) trouble(status.error());
  if (!still_ && schedule_.checkpoint_due_by_time(machine_.clock().steps)) take_checkpoint();
  // After it: the log must not say less than the flight recorder's moments.
  if (!schedule_.takes_progress()) return;
  if (const auto date = schedule_.takes_date_set()) log(event::WallClock{*date});
  log(event::Progress{pace_.host_ns()});
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
  if (taken) sent_.clear();
  schedule_.checkpoint_tried(machine_.clock().steps, taken);
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

// The first reason counts.
void LiveSession::finish(std::optional<event::End> end) {
  if (!end_) end_ = std::move(end);
}

std::string LiveSession::status() {
  const Clock& clock = machine_.clock();
  const char* state = still_.paused()       ? "paused"
                      : still_.in_trouble() ? "paused: the host refuses to read or write"
                      : idle_               ? "idle"
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
