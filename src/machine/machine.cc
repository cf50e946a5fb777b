#include "machine/machine.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "execute/host/stopwatch.h"
#include "machine/boot_cpu.h"
#include "machine/boot_memory.h"
#include "machine/cpu_archive.h"
#include "machine/firmware.h"
#include "machine/memory_map.h"

namespace deja {

Result<std::unique_ptr<Machine>> Machine::create(const MachineConfig& config, const EngineOptions& engine) {
  DEJA_ASSIGN(CpuModel model, parse_cpu_model(config.cpu));
  if (config.vcpus < 1 || config.vcpus > 16)
    return make_error("--smp {}: 1 to 16 vCPUs are possible", config.vcpus);
  if (config.drives.size() > kMaxDrives) return make_error("at most {} drives are possible", kMaxDrives);
  std::unique_ptr<Machine> machine(new Machine(config, std::move(model)));
  DEJA_TRY(machine->init(engine));
  return machine;
}

Status Machine::init(const EngineOptions& options) {
  if (config_.boot.firmware) DEJA_TRY(check_firmware(*config_.boot.firmware));
  const u64 rom_size = config_.boot.firmware ? config_.boot.firmware->bytes.size() : 0;
  const u64 video_size = config_.screen ? BochsDisplay::memory_for(*config_.screen) : 0;
  DEJA_ASSIGN(ram_, GuestRam::create(config_.ram_bytes, rom_size, video_size));
  clock_.rate_num = config_.clock_rate_num;
  clock_.rate_den = config_.clock_rate_den;
  cpus_.resize(config_.vcpus);
  signals_.resize(config_.vcpus);
  last_ran_.resize(config_.vcpus, kNeverStep);
  config_.boot.vcpu_count = config_.vcpus;
  config_.boot.pci = true;
  build_devices();
  DEJA_ASSIGN(engine_, Engine::create(*ram_, *this, clock_, model_, config_.vcpus, options));
  return power_on();
}

Status Machine::power_on() {
  for (unsigned i = 0; i < cpus_.size(); ++i) {
    reset_cpu(cpus_[i], i);
    if (!config_.boot.firmware) set_firmware_mtrrs(cpus_[i], pci_mmio_start(*ram_), model_.physical_bits);
  }
  std::fill(signals_.begin(), signals_.end(), Signals{});
  devices_.reset();
  if (screen_) zero_boot(*ram_, kVideoMemory, ram_->video_size());
  if (resets_ == 0) rtc_->set_time_base(config_.rtc_unix_seconds);
  rtc_->set_memory_size(ram_->low_size(), ram_->high_size());
  if (config_.boot.firmware) {
    load_firmware(*ram_, *config_.boot.firmware);
  } else {
    pci_host_->assign_bars(kPciGapEnd, kPciMmioEnd);
    if (screen_) {
      screen_->switch_on();
      const u32 stride = config_.screen->width * 4u;
      config_.boot.screen =
          LinearScreen{*screen_->window(), config_.screen->width, config_.screen->height, stride};
    }
    DEJA_TRY(load_guest(*ram_, cpus_[0], config_.boot));
  }
  apics_[0]->enter_virtual_wire_mode();
  reset_pending_ = false;
  current_ = 0;
  quantum_end_ = clock_.steps + (chaos_ ? 0 : config_.quantum);
  return {};
}

void Machine::do_reset() {
  ++resets_;
  log_info("machine", "reset at step {}", clock_.steps);
  if (!config_.reboot) {
    end(MachineEnd::reset);
    return;
  }
  // Firmware would load the guest again: so do we. It did fit the first time.
  engine_->set_device_cause(AccessCause::loader);
  const Status status = power_on();
  engine_->set_device_cause(AccessCause::device);
  DEJA_CHECK(status.ok(), "loading the guest again: {}", status.ok() ? "" : status.error().message);
}

void Machine::end(MachineEnd why, u32 status) {
  if (end_ != MachineEnd::none) return;
  end_ = why;
  exit_status_ = status;
}

void Machine::obey(const GuestCommand& command) {
  if (command.kind == GuestCommand::Kind::exit) end(MachineEnd::guest_exit, command.exit_code);
  commanded_ = true;
  if (command_) command_(command);
}

GuestCallAnswer Machine::guest_call(std::string_view line) {
  if (!guest_control_) return GuestCallAnswer::absent;
  return guest_control_->take_line(line) ? GuestCallAnswer::taken : GuestCallAnswer::refused;
}

void Machine::settle(unsigned i) {
  CpuState& s = cpus_[i];
  Signals& sig = signals_[i];
  if (sig.init) {
    sig.init = false;
    init_cpu(s);
    s.activity = i == 0 ? Activity::running : Activity::wait_for_sipi;
  }
  if (sig.sipi) {
    sig.sipi = false;
    if (s.activity == Activity::wait_for_sipi) {
      // SDM vol. 3A 8.4.4: CS:IP = VV00h:0000h.
      s.seg[CS].selector = static_cast<u16>(sig.vector << 8);
      s.seg[CS].base = u64{sig.vector} << 12;
      s.rip = 0;
      s.activity = Activity::running;
    }
  }
  if (sig.nmi) {
    sig.nmi = false;
    s.nmi_pending = true;
  }
  if (s.activity == Activity::shutdown) {
    if (!config_.reboot)
      end(MachineEnd::triple_fault);
    else
      reset_pending_ = true;
    return;
  }
  if (wakes(i)) s.activity = Activity::running;
}

bool Machine::wakes(unsigned i) const {
  const CpuState& s = cpus_[i];
  return s.activity == Activity::halted &&
         ((s.nmi_pending && !s.nmi_blocked) || ((s.rflags & flag::IF) && apics_[i]->pending()));
}

bool Machine::unsettled(unsigned i) const {
  const Signals& sig = signals_[i];
  return sig.nmi || sig.init || sig.sipi || cpus_[i].activity == Activity::shutdown || wakes(i);
}

std::optional<unsigned> Machine::next_vcpu() const {
  const unsigned n = static_cast<unsigned>(cpus_.size());
  const auto can_run = [&](unsigned i) { return cpus_[i].activity == Activity::running; };
  // The current vCPU until its quantum is used up, then the next runnable one.
  if ((!takes_turns() || clock_.steps < quantum_end_) && can_run(current_)) return current_;
  unsigned next = chaos_ ? chaos_->first_asked(clock_.steps, n) : (current_ + 1) % n;
  std::optional<unsigned> last_choice;
  if (chaos_) last_choice = chaos_->starved(clock_.steps, n);
  for (unsigned tried = 0; tried < n; ++tried, next = (next + 1) % n)
    if (next != last_choice && can_run(next)) return next;
  if (last_choice && can_run(*last_choice)) return last_choice;
  return std::nullopt;
}

void Machine::begin_turn(unsigned vcpu, CpuState& cpu) {
  current_ = vcpu;
  cpu.pause_run = 0;
  quantum_end_ =
      clock_.steps + (chaos_ ? chaos_->turn_length(clock_.steps, config_.quantum) : config_.quantum);
}

Step Machine::stretch_end(VtimeNs next_event) const {
  const Step end = std::min(until_, clock_.first_step_at(next_event));
  return takes_turns() ? std::min(end, quantum_end_) : end;
}

// What run() does between two stretches of one vCPU, when nothing else has to be done. `cpus_` has what its
// state was when it began to run: running, as it is now.
std::optional<Step> Machine::go_on(CpuState& cpu, bool spins) {
  if (engine_->observation().active()) return std::nullopt;
  trouble_.reset();
  const VtimeNs next_event = devices_.advance(clock_.now());
  if (trouble_ || reset_pending_ || commanded_ || end_ != MachineEnd::none || clock_.steps >= until_)
    return std::nullopt;
  for (unsigned i = 0; i < cpus_.size(); ++i)
    if (unsettled(i)) return std::nullopt;
  if (spins) quantum_end_ = clock_.steps;
  if (takes_turns() && clock_.steps >= quantum_end_) {
    if (next_vcpu() != current_ || (chaos_ && chaos_->stall_ns(clock_.steps) != 0)) return std::nullopt;
    begin_turn(current_, cpu);
  }
  return stretch_end(next_event);
}

MachineStop Machine::run(Step until) {
  until_ = until;
  const unsigned n = static_cast<unsigned>(cpus_.size());
  while (true) {
    trouble_.reset();
    VtimeNs next_event = devices_.advance(clock_.now());
    if (trouble_) return MachineStop::trouble;
    if (reset_pending_) {
      do_reset();
      next_event = devices_.next_event();
    }
    // What is due at this step is taken before anybody looks: the state at a step must not depend on whether
    // a slice ends there.
    for (unsigned i = 0; i < n; ++i) settle(i);
    if (reset_pending_ && end_ == MachineEnd::none) continue;
    if (engine_->observation().pending()) return MachineStop::observed;
    if (end_ != MachineEnd::none) return MachineStop::ended;
    if (std::exchange(commanded_, false)) return MachineStop::command;
    if (clock_.steps >= until) return MachineStop::until;

    const std::optional<unsigned> next = next_vcpu();
    if (!next) return MachineStop::idle;
    if (engine_->observation().hit_turn(cpus_[*next], clock_.steps)) return MachineStop::observed;
    const Step before = clock_.steps;
    const auto [turn, turn_end] = std::pair(current_, quantum_end_);
    const u32 pauses = cpus_[*next].pause_run;
    if (*next != current_ || (takes_turns() && clock_.steps >= quantum_end_)) {
      begin_turn(*next, cpus_[*next]);
      if (chaos_ && stall(chaos_->stall_ns(before))) continue;
    }

    const RunStop stop = engine_->run(cpus_[current_], stretch_end(next_event));
    if (clock_.steps > before) last_ran_[current_] = clock_.steps - 1;
    if (stop == RunStop::pause) quantum_end_ = clock_.steps;
    if (stop == RunStop::observed && clock_.steps == before) {
      // Nothing has happened at this step, so no turn has begun either.
      cpus_[current_].pause_run = pauses;
      current_ = turn;
      quantum_end_ = turn_end;
    }
  }
}

// A step in which time passes, though not beyond the next deadline. False: there is no time to pass.
bool Machine::stall(u64 ns) {
  if (devices_.next_event() != kNeverNs) ns = std::min(ns, warp_to_deadline());
  if (ns == 0) return false;
  warp(ns);
  ++stalls_;
  return true;
}

u64 Machine::warp_to_deadline() const {
  const VtimeNs deadline = devices_.next_event();
  const VtimeNs after = clock_.at(clock_.steps + 1);
  return deadline > after ? deadline - after : 0;
}

void Machine::warp(u64 ns) {
  ++clock_.steps;
  clock_.warp_ns += ns;
}

u64 Machine::tsc() { return static_cast<u64>(u128{clock_.now()} * model_.tsc_hz / 1'000'000'000); }

u64 Machine::mmio_read(unsigned vcpu, Gpa address, unsigned size) {
  if (apics_[vcpu]->claims(address)) return apics_[vcpu]->mmio_read(address.offset(), size);
  return io_.mmio_read(address, size);
}

void Machine::mmio_write(unsigned vcpu, Gpa address, u64 value, unsigned size) {
  if (apics_[vcpu]->claims(address)) return apics_[vcpu]->mmio_write(address.offset(), value, size);
  io_.mmio_write(address, value, size);
}

std::vector<u8> Machine::save_cpus() const {
  StateWriter w;
  w.field(clock_.steps);
  w.field(clock_.warp_ns);
  w.field(current_);
  w.field(quantum_end_);
  w.field(stalls_);
  for (std::size_t i = 0; i < cpus_.size(); ++i) {
    CpuState s = cpus_[i];
    serialize(w, s);
    w.field(signals_[i].nmi);
    w.field(signals_[i].init);
    w.field(signals_[i].sipi);
    w.field(signals_[i].vector);
  }
  return w.take();
}

std::vector<u8> Machine::save_devices() const {
  StateWriter w;
  devices_.save(w);
  w.field(reset_pending_);
  w.field(resets_);
  w.field(end_);
  w.field(exit_status_);
  return w.take();
}

Status Machine::restore_cpus(const std::vector<u8>& bytes) {
  StateReader r(bytes);
  r.field(clock_.steps);
  r.field(clock_.warp_ns);
  r.field(current_);
  r.field(quantum_end_);
  r.field(stalls_);
  bool sound = current_ < cpus_.size();
  for (std::size_t i = 0; i < cpus_.size(); ++i) {
    CpuState& s = cpus_[i];
    serialize(r, s);
    r.field(signals_[i].nmi);
    r.field(signals_[i].init);
    r.field(signals_[i].sipi);
    r.field(signals_[i].vector);
    // What the engine takes for granted; everything else a guest could bring about.
    sound = sound && s.index == i && s.activity <= Activity::shutdown && !(s.fpu.mxcsr & ~0xffffu);
  }
  if (r.ok() && r.at_end() && sound) return {};
  current_ = 0;
  for (unsigned i = 0; i < cpus_.size(); ++i) reset_cpu(cpus_[i], i);
  return make_error("saved vCPUs: {} bytes that are not the state of {} vCPUs", bytes.size(), cpus_.size());
}

Status Machine::restore_devices(const std::vector<u8>& bytes) {
  StateReader r(bytes);
  DEJA_TRY(devices_.restore(r));
  r.field(reset_pending_);
  r.field(resets_);
  r.field(end_);
  r.field(exit_status_);
  if (r.ok() && r.at_end() && end_ <= MachineEnd::guest_exit) return {};
  end_ = MachineEnd::none;
  return make_error("saved devices: byte {}: the state of the machine is cut off or damaged", r.position());
}

std::vector<DiskOverlay::Snapshot> Machine::save_disks() {
  std::vector<DiskOverlay::Snapshot> disks;
  for (const auto& overlay : overlays_) disks.push_back(overlay->snapshot());
  return disks;
}

Status Machine::restore(const MachineState& state) {
  if (state.disks.size() != overlays_.size())
    return make_error("saved machine: has {} disks, this one has {}", state.disks.size(), overlays_.size());
  for (std::size_t i = 0; i < overlays_.size(); ++i) overlays_[i]->restore(state.disks[i]);
  // Twice: while a device takes its state it may drive its lines, and one that was restored before it is at
  // the other end of the wire. The second time every line is where it was.
  for (int pass = 0; pass < 2; ++pass) {
    DEJA_TRY(restore_cpus(state.cpus));  // the clock first: devices look at it
    DEJA_TRY(restore_devices(state.devices));
  }
  DEJA_TRY(restore_cpus(state.cpus));  // signals may have been raised meanwhile
  if (save_devices() != state.devices || save_cpus() != state.cpus)
    return make_error("saved machine: its parts contradict each other");
  return {};
}

MachineDigest Machine::digest() {
  const Stopwatch watch(engine_->digest_ns());
  const auto hash = [](const std::vector<u8>& bytes) { return XXH3_64bits(bytes.data(), bytes.size()); };
  u64 devices = hash(save_devices());
  for (std::size_t i = 0; i < overlays_.size(); ++i)
    devices += overlays_[i]->digest() * (2 * i + 1);  // odd: no two disks may be exchanged
  return {hash(save_cpus()), ram_->digest(), devices};
}

}  // namespace deja
