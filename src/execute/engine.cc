#include "execute/engine.h"

#include <sys/auxv.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "execute/cache/perf_map.h"
#include "execute/host/host_cpu.h"
#include "execute/host/host_flags.h"
#include "execute/quick_ops.h"
#include "execute/tlb/page_probe.h"
#include "semantics/flag_ops.h"
#include "semantics/fpu/fpu_state.h"

namespace deja {
namespace {

// A host fault takes as long as some thousands of steps: heads that find the counter run out more often than
// after so many branch in place of it.
constexpr Step kStepsPerFault = 1 << 17;

void set_mxcsr(u32 value) { asm volatile("ldmxcsr %0" ::"m"(value)); }

void fpu_to_memory(Vcpu& cpu) { host_x87_save(cpu.state.fpu); }
void fpu_from_memory(Vcpu& cpu) { host_x87_load(cpu.state.fpu); }

// Every other seed's is full again and again.
u64 code_cache_bytes(const EngineOptions& options) {
  return options.chaos.enabled && options.chaos.seed % 2 ? 2_MiB : options.code_cache_bytes;
}

}  // namespace

Engine::Engine(GuestRam& ram, Platform& platform, Clock& clock, const CpuModel& model,
               const EngineOptions& options)
    : ram_(ram),
      clock_(clock),
      model_(model),
      options_(options),
      chaos_(options.chaos, options.translate),
      gate_(platform, run_.stop_requested),
      spaces_(ram),
      cache_(ram, code_cache_bytes(options)),
      observation_(ram) {
  options_.translate.avx_model = model.avx;
  options_.translate.adx_model = model.adx;
  options_.translate.sha_model = model.sha;
  chaos_.vary(options_.translate);
  spaces_.share_kernel(options_.translate.share_kernel);
}

Result<std::unique_ptr<Engine>> Engine::create(GuestRam& ram, Platform& platform, Clock& clock,
                                               const CpuModel& model, unsigned vcpu_count,
                                               const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(ram, platform, clock, model, options));
  DEJA_TRY(engine->init());
  engine->vcpu_->vcpu_count = vcpu_count;
  return engine;
}

namespace {

Status check_host(const CpuModel& model) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma"))
    return make_error("this host's CPU is below x86-64-v3 (AVX2, BMI2, FMA are needed): see lscpu");
  DEJA_TRY(check_host_features(model));
  if (!(getauxval(AT_HWCAP2) & 2))
    return make_error("this host's kernel does not enable FSGSBASE (Linux 5.9 or later does)");
  return {};
}

// What this host computes for undefined flags, found out once.
const HostFlagDifferences& flag_differences() {
  static const HostFlagDifferences differences = host_flag_differences();
  return differences;
}

}  // namespace

Status Engine::init() {
  DEJA_TRY(check_host(model_));
  const HostFlagDifferences& differences = flag_differences();
  if (differences.groups)
    log_info("engine",
             "this CPU's undefined flags differ (groups {:#x}): they are mended (groups {:#x}: in C++)",
             differences.groups, differences.not_fixed);
  options_.translate.soft_flags |= differences.groups;
  options_.translate.cpp_flags |= differences.not_fixed;
  DEJA_TRY(cache_.init());
  DEJA_TRY(spaces_.init());
  DEJA_TRY(install_host_signals());
  ctx_ = cache_.context();
  ctx_->engine = this;
  vcpu_.reset(new Vcpu{ctx_->state, *this, gate_, clock_, model_});
  vcpu_->fpu_to_memory = fpu_to_memory;
  vcpu_->fpu_from_memory = fpu_from_memory;
  ctx_->quick.store = &cache_.store();
  ctx_->quick.cache_exec = cache_.exec_base();
  ctx_->quick.enabled = options_.translate.quick;
  make_thunks();
  DEJA_TRY(spaces_.use_far_links(thunks_.targets.far_link, thunks_.targets.far_jump));
  translator_ = std::make_unique<Translator>(cache_.store(), thunks_.targets, options_.translate);
  signals_.emplace(HostSignalMap{cache_.exec_base(), cache_.exec_base() + cache_.bytes(), cache_.probe_base(),
                                 thunks_.targets.expired, thunks_.host_fault, ctx_});
  ram_.set_observer(this);
  return {};
}

// Calls of C++ by translated code, whose engine the context names.
template <u64 (Engine::*kEntry)(u32 site, u64 r9)>
u64 Engine::enter(ExecContext* context, u64 site, u64 r9) {
  Engine& e = *context->engine;
  context->arrive();
  return e.depart((e.*kEntry)(static_cast<u32>(site), r9));
}

void Engine::make_thunks() {
  const Handlers handlers{.mem_slow = enter<&Engine::mem_slow>,
                          .mem_commit = enter<&Engine::mem_commit>,
                          .helper = enter<&Engine::run_helper>,
                          .link = enter<&Engine::link>,
                          .far_link = enter<&Engine::far_link>,
                          .dispatch = enter<&Engine::jump_missed>,
                          .removed = enter<&Engine::removed>,
                          .expired = enter<&Engine::expired>,
                          .host_fault = enter<&Engine::host_fault>,
                          .quick = run_quick,
                          .quick_done = enter<&Engine::quick_done>,
                          .quick_access = run_quick_access,
                          .quick_commit = run_quick_commit,
                          .quick_jump = run_quick_jump};
  CodeTargets targets;
  targets.context = reinterpret_cast<u64>(ctx_);
  targets.probe_base = cache_.probe_base();
  targets.page_probe = page_probe();
  targets.cache_exec = cache_.exec_base();
  Emitter e(cache_.write_base(), cache_.exec_base() - reinterpret_cast<u64>(cache_.write_base()));
  thunks_ = emit_thunks(e, targets, handlers);
  cache_.keep(static_cast<u32>(e.p - cache_.write_base()), thunks_.targets.removed);
  ctx_->quick.first_copy = cache_.kept();
}

Engine::~Engine() {
  ram_.set_observer(nullptr);
  if (options_.perf_map) write_perf_map(perf_map_text(cache_.store(), cache_.exec_base()));
}

EngineCounters Engine::counters() const {
  EngineCounters c = counters_;
  c.quick_declined = ctx_->quick.calls[0];
  c.quick_done = ctx_->quick.calls[1];
  c.slow_accesses += ctx_->quick.crossings;
  c.crossings += ctx_->quick.crossings;
  c.second_jumps = ctx_->quick.second_jumps;
  return c;
}

void Engine::flush_caches() {
  spaces_.flush_all();
  cache_.clear();
  ++counters_.cache_flushes;
}

void Engine::memory_map_changed() {
  spaces_.flush_all();
  run_.dropped = true;
}

void Engine::observe(ObservationSpec spec) {
  DEJA_CHECK(!run_.active);
  const ObservationSpec& old = observation_.spec();
  const bool breakpoints_change = spec.breakpoints != old.breakpoints;
  const bool watchpoints_change = spec.watchpoints != old.watchpoints;
  observation_.set(std::move(spec));
  if (breakpoints_change) {
    cache_.remove_observed();
    spaces_.flush_all_jumps();
  }
  if (watchpoints_change) spaces_.flush_all();
}

// --- the run

RunStop Engine::run(CpuState& cpu, Step until) {
  if (clock_.steps >= until) return RunStop::budget;
  prepare_signal_stack();
  ctx_->state = cpu;
  run_.active = true;
  run_.dropped = false;
  space_ = {};  // another engine may have run on this thread since
  begin_stretch(until);
  if (chaos_.on()) disturb();
  if (const u64 code = dispatch(DispatchCause::start)) {
    host_x87_load(ctx_->state.fpu);
    depart(code);
    thunks_.enter(code);
    host_x87_save(ctx_->state.fpu);
    set_mxcsr(kMxcsrInit);
    asm volatile("fninit");
  }
  update_clock();
  cpu = ctx_->state;
  run_.active = false;
  check_limit();
  return run_.reason;
}

void Engine::check_limit() const {
  DEJA_CHECK(ctx_->remaining() >= 0, "vCPU {} was to run to step {} and ran to step {}, before {:#x}",
             ctx_->state.index, ctx_->end_step, ctx_->end_step - static_cast<u64>(ctx_->remaining()),
             linear_pc().value);
}

void Engine::begin_stretch(Step until) {
  const CpuState& s = ctx_->state;
  run_.stop_requested = false;
  run_.reason = RunStop::budget;
  const i64 budget = static_cast<i64>(std::min<u64>(until - clock_.steps, static_cast<u64>(kMaxSliceSteps)));
  ctx_->end_step = clock_.steps + static_cast<u64>(budget);
  ctx_->set_remaining(budget);
  ctx_->quick.interrupt_pending = gate_.interrupt_pending(s.index);
  ctx_->quick.several_vcpus = vcpu_->vcpu_count > 1;
  ctx_->quick.tsc_counts_steps = clock_.rate_num == clock_.rate_den && model_.tsc_hz == 1'000'000'000;
  ctx_->quick.tsc_offset = clock_.warp_ns + s.msr.tsc_adjust;
}

// Spares it to leave translated code and to come back, with all registers saved and loaded: a turn, or an
// access to a device, is mostly followed by more of the same vCPU.
bool Engine::goes_on() {
  check_limit();
  if (ctx_->state.activity != Activity::running) return false;
  // Either way must lead to the same.
  if (chaos_.one_in(4)) return false;
  update_clock();
  const std::optional<Step> until = gate_.go_on(ctx_->state, run_.reason == RunStop::pause);
  if (!until || *until <= clock_.steps) return false;
  begin_stretch(*until);
  return true;
}

void Engine::disturb() {
  switch (chaos_.draw_disturbance()) {
    case Disturbance::none:
      break;
    case Disturbance::drop_code:
      flush_caches();
      chaos_.vary_again(translator_->options());
      break;
    case Disturbance::drop_spaces:
      spaces_.flush_all();
      break;
    case Disturbance::drop_jumps:
      spaces_.flush_all_jumps();
      break;
    case Disturbance::drop_far_links:
      spaces_.give_up_far_links();
      break;
    case Disturbance::mark_pages_dirty:
      for (int i = 0; i < 4; ++i) {
        const u64 frame = chaos_.draw() % ram_.frames();
        if (ram_.contains(Gpa(frame << kPageShift)) && !ram_.is_absent(frame)) ram_.mark_dirty(frame);
      }
      break;
  }
}

u64 Engine::depart(u64 code) {
  if (chaos_.on()) chaos_.poison(*ctx_);
  ctx_->depart();
  return code;
}

u64 Engine::jump_missed(u32 branch, u64 pc) { return jump(Gva(pc), branch, DispatchCause::jump_miss); }

u64 Engine::removed(u32 link, u64 pc) {
  // On any way but a far link `link` is junk. To free a far link for no reason does no harm: it is found
  // again.
  if (cache_.store().far_links.has(link))
    spaces_.reset_far_link(space(), mode_of(ctx_->state).view(), far_link_slot(link));
  return jump(Gva(pc), kNone, DispatchCause::jump_miss);
}

u64 Engine::expired(u32 id, u64) {
  const Block& b = cache_.block(id);
  if (!b.in_parts()) ctx_->set_remaining(ctx_->remaining() + b.count);
  set_rip(b, 0);
  update_clock();
  if (clock_.steps - std::exchange(last_expired_, clock_.steps) < kStepsPerFault && !b.check_branches)
    cache_.let_check_branch(id);
  // Where this is a block without groups, the one with groups at its place, which may have led here, is not
  // shorter: it does not lead here again.
  return dispatch(DispatchCause::expired);
}

u64 Engine::quick_done(u32, u64) { return dispatch(DispatchCause::helper); }

u64 Engine::resume_in(const Block& b, u32 offset) {
  ctx_->vectors_wanted = b.vectors || b.mode.has(BlockMode::kUser);
  return cache_.exec_base() + offset;
}

void Engine::sync_to(const Block& b, unsigned insn) {
  DEJA_CHECK(ctx_->remaining() >= i64{b.reserved(insn)},
             "at instruction {} of the block at {:#x}, {} steps are left and its later parts take {}", insn,
             b.pc.value, ctx_->remaining(), b.reserved(insn));
  ctx_->set_remaining(ctx_->remaining() + b.prepaid(insn));
  update_clock();
}

void Engine::set_rip(const Block& b, unsigned insn) {
  ctx_->state.rip = rip_of(Gva(ctx_->current_page + cache_.store().page_offset(b, insn)));
}

void Engine::raise(const GuestFault& fault, EventKind kind) {
  ++counters_.faults;
  step_trap_.cancel();
  // The instruction did not complete: what its accesses met is met again when it is restarted. What MOV SS
  // before it has left is lost, general detect included (SDM vol. 3C "Delivery of Pending Debug Exceptions
  // after VM Entry": nothing is pending after a hardware exception).
  if (kind == EventKind::fault) ctx_->state.pending_dbg = 0;
  if (observation_.hit_delivery(linear_pc(), ctx_->state, clock_.steps + 1)) run_.stop_requested = true;
  causes_.delivering = true;
  deliver_event(*vcpu_, kind, fault);
  causes_.delivering = false;
  ctx_->set_remaining(ctx_->remaining() - 1);
  update_clock();
}

}  // namespace deja
