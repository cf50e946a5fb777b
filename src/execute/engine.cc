#include "execute/engine.h"

#include <sys/auxv.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "execute/flag_ops.h"
#include "execute/fpu_state.h"
#include "execute/host_cpu.h"
#include "execute/host_signals.h"
#include "execute/page_probe.h"
#include "execute/perf_map.h"
#include "execute/quick_ops.h"

namespace deja {
namespace {

// Translated code knows one context, and a thunk gets no more than its address: the engine that owns it.
thread_local Engine* g_engine = nullptr;

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

Engine::Engine(GuestRam& ram, Platform& platform, Clock& clock, const CpuModel& model, unsigned vcpu_count,
               const EngineOptions& options)
    : ram_(ram),
      clock_(clock),
      model_(model),
      options_(options),
      asked_(options.translate),
      gate_(*this, platform),
      spaces_(ram),
      cache_(ram, code_cache_bytes(options)),
      observation_(ram) {
  options_.translate.avx_model = model.avx;
  options_.translate.adx_model = model.adx;
  options_.translate.sha_model = model.sha;
  chaos_state_ = options.chaos.seed * 0x9e3779b97f4a7c15u + 0x1234567;
  if (options.chaos.enabled) {
    options_.translate.max_insns = 1 + chaos() % 64;
    for (const EngineSwitch& s : kEngineSwitches)
      if (s.on != &TranslateOptions::inline_tlb) options_.translate.*s.on &= chaos() % 4 != 0;
    options_.translate.unroll_after = 1 + chaos() % 8;
    if (chaos() % 2) options_.translate.soft_flags = static_cast<u32>(chaos());
  }
  spaces_.share_kernel(options_.translate.share_kernel);
  (void)vcpu_count;
}

Result<std::unique_ptr<Engine>> Engine::create(GuestRam& ram, Platform& platform, Clock& clock,
                                               const CpuModel& model, unsigned vcpu_count,
                                               const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(ram, platform, clock, model, vcpu_count, options));
  DEJA_TRY(engine->init());
  engine->vcpu_->vcpu_count = vcpu_count;
  return engine;
}

Status Engine::init() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma"))
    return make_error("this host's CPU is below x86-64-v3 (AVX2, BMI2, FMA are needed): see lscpu");
  DEJA_TRY(check_host_features(model_));
  if (!(getauxval(AT_HWCAP2) & 2))
    return make_error("this host's kernel does not enable FSGSBASE (Linux 5.9 or later does)");
  static const HostFlagDifferences differences = host_flag_differences();
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
  vcpu_.reset(new Vcpu{ctx_->state, *this, gate_, clock_, model_});
  vcpu_->fpu_to_memory = fpu_to_memory;
  vcpu_->fpu_from_memory = fpu_from_memory;
  Emitter e(cache_.write_base(), cache_.exec_base() - reinterpret_cast<u64>(cache_.write_base()));
  const Handlers handlers{.mem_slow = enter_mem_slow,
                          .mem_commit = enter_mem_commit,
                          .helper = enter_helper,
                          .link = enter_link,
                          .far_link = enter_far_link,
                          .dispatch = enter_dispatch,
                          .removed = enter_removed,
                          .expired = enter_expired,
                          .host_fault = enter_host_fault,
                          .quick = run_quick,
                          .quick_done = enter_quick_done,
                          .quick_access = run_quick_access,
                          .quick_commit = run_quick_commit,
                          .quick_jump = run_quick_jump};
  ctx_->quick.store = &cache_.store();
  ctx_->quick.cache_exec = cache_.exec_base();
  ctx_->quick.enabled = options_.translate.quick;
  CodeTargets targets;
  targets.context = reinterpret_cast<u64>(ctx_);
  targets.probe_base = cache_.probe_base();
  targets.page_probe = page_probe();
  targets.cache_exec = cache_.exec_base();
  thunks_ = emit_thunks(e, targets, handlers);
  cache_.keep(static_cast<u32>(e.p - cache_.write_base()), thunks_.targets.removed);
  DEJA_TRY(spaces_.use_far_links(thunks_.targets.far_link, thunks_.targets.far_jump));
  ctx_->quick.first_copy = cache_.kept();
  translator_ = std::make_unique<Translator>(cache_.store(), thunks_.targets, options_.translate);
  ram_.set_observer(this);
  return {};
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
  dropped_ = true;
}

void Engine::observe(ObservationSpec spec) {
  DEJA_CHECK(!running_);
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
  g_engine = this;
  ctx_->state = cpu;
  running_ = true;
  gs_base_ = nullptr;  // another engine may have run on this thread
  space_ = nullptr;
  dropped_ = false;
  begin_stretch(until);
  HostSignalScope signals({cache_.exec_base(), cache_.exec_base() + cache_.bytes(), cache_.probe_base(),
                           thunks_.targets.expired, thunks_.host_fault, ctx_});
  if (options_.chaos.enabled) disturb();
  const u64 code = dispatch(DispatchCause::start);
  if (code) {
    host_x87_load(ctx_->state.fpu);
    depart(code);
    thunks_.enter(code);
    host_x87_save(ctx_->state.fpu);
    set_mxcsr(0x1f80);
    asm volatile("fninit");
  }
  update_clock();
  cpu = ctx_->state;
  running_ = false;
  check_limit();
  return stop_reason_;
}

void Engine::check_limit() const {
  DEJA_CHECK(ctx_->remaining() >= 0, "vCPU {} was to run to step {} and ran to step {}, before {:#x}",
             ctx_->state.index, ctx_->end_step, ctx_->end_step - static_cast<u64>(ctx_->remaining()),
             linear_pc());
}

void Engine::begin_stretch(Step until) {
  const CpuState& s = ctx_->state;
  stop_requested_ = false;
  stop_reason_ = RunStop::budget;
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
  if (options_.chaos.enabled && chaos() % 4 == 0) return false;
  update_clock();
  const std::optional<Step> until = gate_.go_on(ctx_->state, stop_reason_ == RunStop::pause);
  if (!until || *until <= clock_.steps) return false;
  begin_stretch(*until);
  return true;
}

u64 Engine::depart(u64 code) {
  if (options_.chaos.enabled) poison();
  ctx_->depart();
  return code;
}

u64 Engine::enter_mem_slow(ExecContext*, u64 site, u64 r9) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.mem_slow(static_cast<u32>(site), r9));
}
u64 Engine::enter_mem_commit(ExecContext*, u64 site, u64) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.mem_commit(e.cache_.store().mem_sites[site]));
}
u64 Engine::enter_helper(ExecContext*, u64 site, u64) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.run_helper(static_cast<u32>(site)));
}
u64 Engine::enter_link(ExecContext*, u64 site, u64) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.link(static_cast<u32>(site)));
}
u64 Engine::enter_far_link(ExecContext*, u64 site, u64 r9) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.far_link(static_cast<u32>(site), r9));
}
u64 Engine::enter_dispatch(ExecContext*, u64 site, u64 r9) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.jump(r9, static_cast<u32>(site), DispatchCause::jump_miss));
}
u64 Engine::enter_removed(ExecContext* ctx, u64 site, u64 r9) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  // Who came another way has junk there, and a far link that is free for no reason is found again.
  const u32 link = static_cast<u32>(site);
  if (e.cache_.store().far_links.has(link))
    e.spaces_.reset_far_link(e.space(), mode_of(ctx->state).view(), far_link_slot(link));
  return e.depart(e.jump(r9, kNone, DispatchCause::jump_miss));
}
u64 Engine::enter_expired(ExecContext* ctx, u64 id, u64) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  const Block& b = e.cache_.block(static_cast<BlockId>(id));
  if (!b.in_parts()) ctx->set_remaining(ctx->remaining() + b.count);
  e.set_rip(b, 0);
  e.update_clock();
  if (e.clock_.steps - std::exchange(e.last_expired_, e.clock_.steps) < kStepsPerFault && !b.check_branches)
    e.cache_.let_check_branch(static_cast<BlockId>(id));
  // Of a block without groups the one with groups at its place, which may have led here, is not shorter: it
  // does not lead here again.
  return e.depart(e.dispatch(DispatchCause::expired));
}
u64 Engine::enter_quick_done(ExecContext*, u64, u64) {
  Engine& e = *g_engine;
  return e.depart(e.dispatch(DispatchCause::helper));
}
u64 Engine::enter_host_fault(ExecContext*, u64, u64 r9) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  return e.depart(e.host_fault(r9));
}

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
  ctx_->state.rip = rip_of(ctx_->current_page + cache_.store().page_offset(b, insn));
}

void Engine::raise(const GuestFault& fault, EventKind kind) {
  ++counters_.faults;
  step_trap_ = false;
  // The instruction did not complete: what its accesses met is met again when it is restarted. What MOV SS
  // before it has left is lost, general detect included (SDM vol. 3C "Delivery of Pending Debug Exceptions
  // after VM Entry": nothing is pending after a hardware exception).
  if (kind == EventKind::fault) ctx_->state.pending_dbg = 0;
  if (observation_.hit_delivery(linear_pc(), ctx_->state, clock_.steps + 1)) stop_requested_ = true;
  delivering_ = true;
  deliver_event(*vcpu_, kind, fault);
  delivering_ = false;
  ctx_->set_remaining(ctx_->remaining() - 1);
  update_clock();
}

}  // namespace deja
