#include "replay/replayer.h"

#include <algorithm>

#include "checkpoint/restore.h"
#include "execute/cache/code_memory.h"
#include "replay/apply.h"
#include "replay/checkpointing.h"
#include "replay/position.h"
#include "replay/replay_access.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

constexpr Step kChunk = 4'000'000;        // steps between two looks at output and pace
constexpr std::size_t kRecent = 12;       // events kept for a report
constexpr unsigned kMachines = 2;         // of a process at a time: one may be compared with another
constexpr u64 kLongestNs = u64{1} << 62;  // 146 years: no sleep takes virtual time past this

}  // namespace

Result<std::unique_ptr<Replayer>> Replayer::open(const std::filesystem::path& dir,
                                                 const EngineOptions& engine, Hooks hooks) {
  DEJA_ASSIGN(std::unique_ptr<Replayer> r, open_at_power_on(dir, engine, std::move(hooks)));
  if (r->manifest().base) DEJA_TRY(r->go_to_base());
  return r;
}

Result<std::unique_ptr<Replayer>> Replayer::open_at_power_on(const std::filesystem::path& dir,
                                                             const EngineOptions& engine, Hooks hooks) {
  DEJA_TRY(allow_replay(dir));
  DEJA_ASSIGN(Recording recording, Recording::open(dir));
  std::unique_ptr<Replayer> r(new Replayer(std::move(recording)));
  DEJA_TRY(r->init(engine, std::move(hooks)));
  return r;
}

Status Replayer::go_to_base() {
  DEJA_ASSIGN(const CheckpointReader checkpoints, open_checkpoints(recording_.dir, manifest(), *machine_));
  DEJA_TRY(restore_base_ram(machine_->ram(), checkpoints, 0));
  const CheckpointPoint& base = checkpoints.point(0);
  Point point{base.machine, recording_.log.cursor(), base.events, base.warps, base.deliveries, base.step};
  DEJA_ASSIGN(point.machine.disks, DiskHistory(*machine_, checkpoints).disks_at(0));
  return restore(point);
}

Status Replayer::init(const EngineOptions& engine, Hooks hooks) {
  const RecordingManifest& m = recording_.manifest;
  if (Status known = check_behaviour(m.machine_version); !known)
    return make_error("{}: was recorded with {}; replay it with build {}", recording_.dir.string(),
                      known.error().message, m.build);
  DEJA_ASSIGN(files_, recorded_guest_files(recording_.dir, m));
  if (!files_.drives.empty()) BlockStore::of_process();  // its scratch space
  CodeMemory::reserve(kMachines);
  DEJA_TRY(sandbox::enter());
  DEJA_ASSIGN(const MachineConfig config, machine_config(setup_of(m), files_));
  DEJA_ASSIGN(machine_, Machine::create(config, engine));
  hooks_ = std::move(hooks);
  if (hooks_.output) {
    const auto keep = [this](u8 byte) { text_.push_back(static_cast<char>(byte)); };
    // Where the recorded session had its terminal.
    const auto& serial = m.machine.serial;
    if (m.machine.console && serial.size() > 1 && serial[1] == "stdio")
      machine_->on_console(keep);
    else
      machine_->on_serial(keep);
  }
  if (hooks_.frame) machine_->on_frame(hooks_.frame);
  return {};
}

u64 Replayer::instructions_before() const { return manifest().base ? manifest().base->instructions : 0; }

u64 Replayer::instructions() { return instructions_retired(*machine_, warps_) - deliveries_before_; }

SessionCounts Replayer::counts() const {
  return {events_, warps_, deliveries_before_ + machine_->engine().counters().faults};
}

Replayer::Point Replayer::save() {
  bring_to_rest(*machine_);
  return {{machine_->save_cpus(), machine_->save_devices(), machine_->save_disks()},
          recording_.log.cursor(),
          events_,
          warps_,
          counts().deliveries,
          last_good_};
}

Status Replayer::restore(const Point& point) {
  DEJA_TRY(machine_->restore(point.machine));
  DEJA_TRY(recording_.log.seek(point.log));
  events_ = point.events;
  warps_ = point.warps;
  deliveries_before_ = point.deliveries - machine_->engine().counters().faults;
  last_good_ = point.last_good;
  recent_.clear();
  text_.clear();
  divergence_.reset();
  return {};
}

void Replayer::show_output() {
  if (text_.empty()) return;
  hooks_.output(text_);
  text_.clear();
}

bool Replayer::diverge(std::string reason) {
  show_output();
  divergence_ = Divergence{step(), last_good_, std::move(reason), {}};
  return false;
}

Replayer::Stop Replayer::drive(Step target) {
  while (step() < target) {
    const MachineStop stop = machine_->run(std::min(target, step() + kChunk));
    show_output();
    if (hooks_.pace) hooks_.pace(machine_->now());
    if (stop == MachineStop::trouble) return Stop::diverged;  // which run_to() tells apart
    if (stop == MachineStop::observed) return Stop::observed;
    if (stop == MachineStop::ended && step() < target) {
      diverge("the machine ended here; in the recording it went on");
      return Stop::diverged;
    }
    if (stop != MachineStop::idle || step() == target) continue;
    const VtimeNs deadline = machine_->next_deadline();
    if (deadline == kNeverNs) {
      diverge("every vCPU waits for an interrupt and none will come; in the recording it went on");
      return Stop::diverged;
    }
    if (hooks_.pace) hooks_.pace(deadline);
    machine_->warp(machine_->warp_to_deadline());
    ++warps_;
  }
  return Stop::reached;
}

bool Replayer::apply(const LogEvent& event) {
  if (reaches_machine(event.body) || std::holds_alternative<event::Digest>(event.body)) {
    bring_to_rest(*machine_);
    if (machine_->trouble()) return false;
  }
  if (const auto* cut = std::get_if<event::IdleCut>(&event.body)) {
    const VtimeNs now = machine_->now();
    if (cut->warp_ns > kLongestNs || now + cut->warp_ns > kLongestNs)
      return diverge(fmt::format("the recorded sleep of {} ns is longer than any", cut->warp_ns));
    if (machine_->next_deadline() != kNeverNs && cut->warp_ns > machine_->warp_to_deadline())
      return diverge(fmt::format("the recorded sleep of {} ns passes the next timer's deadline, {} ns away",
                                 cut->warp_ns, machine_->warp_to_deadline()));
    if (hooks_.pace) hooks_.pace(now + cut->warp_ns);
    machine_->warp(cut->warp_ns);
    ++warps_;
    return true;
  }
  if (const auto* recorded = std::get_if<event::Digest>(&event.body)) {
    if (!check_digests_) return true;
    const MachineDigest expected{recorded->cpu, recorded->ram, recorded->devices};
    const MachineDigest got = machine_->digest();
    ++digests_checked_;
    if (got != expected) {
      std::string parts;
      const auto differs = [&](bool different, const char* name) {
        if (different) parts += (parts.empty() ? "" : ", ") + std::string(name);
      };
      differs(got.cpu != expected.cpu, "cpu");
      differs(got.ram != expected.ram, "ram");
      differs(got.devices != expected.devices, "devices");
      diverge(fmt::format("the digest differs in: {}", parts));
      divergence_->digests = {expected, got};
      return false;
    }
    last_good_ = event.step;
    return true;
  }
  apply_event(*machine_, event.body);
  return true;
}

Result<Replayer::Stop> Replayer::run_to(Step target) {
  Result<Stop> stop = follow_log(target);
  if (machine_->trouble()) return *machine_->trouble();
  return stop;
}

Result<Replayer::Stop> Replayer::follow_log(Step target) {
  while (!divergence_) {
    auto peeked = recording_.log.peek();
    if (!peeked) {
      // Up to the damage everything is known; the caller may have asked for no more.
      if (target > std::max(recording_.log.last_step(), step())) return peeked.error();
      return drive(target);
    }
    const LogEvent* next = *peeked;
    if (!next) {
      const Step last = std::max(recording_.log.last_step(), step());
      if (target <= last) return drive(target);
      return Stop::log_end;
    }
    // A sleep is the step after the one that it is stamped with.
    const bool sleep = std::holds_alternative<event::IdleCut>(next->body);
    if (next->step > target || (sleep && next->step == target)) return drive(target);
    if (const Stop stop = drive(next->step); stop != Stop::reached) return stop;
    DEJA_ASSIGN(const std::optional<LogEvent> event, recording_.log.next());
    ++events_;
    if (!apply(*event)) break;
    recent_.push_back(*event);
    if (recent_.size() > kRecent) recent_.pop_front();
  }
  return Stop::diverged;
}

}  // namespace deja
