#include "execute/engine.h"

#include <sys/auxv.h>
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "execute/flag_ops.h"
#include "execute/fpu_state.h"
#include "execute/host_signals.h"
#include "execute/near_ops.h"
#include "execute/page_probe.h"
#include "execute/perf_map.h"
#include "execute/quick_ops.h"
#include "execute/stopwatch.h"
#include "translate/classify.h"
#include "translate/listing.h"

namespace deja {
namespace {

// Translated code knows one context, and a thunk gets no more than its address: the engine that owns it.
thread_local Engine* g_engine = nullptr;

constexpr u64 kDr6Bs = 1 << 14;
constexpr u64 kDebugCtlBtf = 1 << 1;
constexpr unsigned kMaxInsnBytes = 15;
// How often the probe of a memory site may fault, at a microsecond or two, before it is made to branch.
constexpr unsigned kFaultsPerProbe = 4;
// A group of accesses is given up when its lookup has missed this often, on average after fewer steps than
// this.
constexpr u32 kGroupMisses = 16;
constexpr u64 kStepsPerGroupMiss = 1000;
// The same where the way to a block without groups need not lead through C++.
constexpr u64 kStepsPerDirectMiss = 50;

// A taken branch even where it leads to the instruction that follows it.
bool always_branches(ZydisMnemonic m) {
  return m == ZYDIS_MNEMONIC_JMP || m == ZYDIS_MNEMONIC_CALL || m == ZYDIS_MNEMONIC_RET ||
         m == ZYDIS_MNEMONIC_IRET || m == ZYDIS_MNEMONIC_IRETD || m == ZYDIS_MNEMONIC_IRETQ;
}
// An SMP guest that executes this many PAUSEs in one quantum is spinning: its quantum ends.
constexpr u32 kPausesPerQuantum = 16;

void set_gs_base(const void* base) { asm volatile("wrgsbase %0" ::"r"(base)); }
// The host's x87 status and control words, which are the guest's.
u16 host_fsw() {
  u16 value;
  asm volatile("fnstsw %0" : "=m"(value));
  return value;
}
u16 host_fcw() {
  u16 value;
  asm volatile("fnstcw %0" : "=m"(value));
  return value;
}
// Unmasked, these keep an x87 store from writing its memory operand (SDM vol. 1 8.5).
constexpr u16 kStoreSuppressing = fsw::IE | fsw::OE | fsw::UE;

void set_mxcsr(u32 value) { asm volatile("ldmxcsr %0" ::"m"(value)); }

void fpu_to_memory(Vcpu& cpu) { host_x87_save(cpu.state.fpu); }
void fpu_from_memory(Vcpu& cpu) { host_x87_load(cpu.state.fpu); }

// Every other seed's is full again and again.
u64 code_cache_bytes(const EngineOptions& options) {
  return options.chaos.enabled && options.chaos.seed % 2 ? 2_MiB : options.code_cache_bytes;
}

InsnHelper find_helper(const Insn& insn) {
  // A bit string in memory is near_ops.cc's; the other forms come here when the host's flags differ.
  const bool bit_string = insn.has_mem && insn.op[1].kind == OperandKind::gpr;
  if (flag_group(insn.mnemonic) == FlagGroup::bit_test && !bit_string) return find_flag_helper(insn);
  if (InsnHelper f = find_near_helper(insn)) return f;
  if (InsnHelper f = find_string_helper(insn)) return f;
  if (InsnHelper f = find_system_helper(insn)) return f;
  if (InsnHelper f = find_fpu_helper(insn)) return f;
  if (InsnHelper f = find_legacy_helper(insn)) return f;
  if (InsnHelper f = find_flag_helper(insn)) return f;
  log_info("guest", "undefined here: {}", disassemble(insn.bytes, insn.length, insn.code_size, 0));
  return [](Vcpu&, const Insn&) { throw fault_ud(); };
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
      cache_(ram, code_cache_bytes(options), options.translate.huge_pages),
      observation_(ram) {
  options_.translate.avx_model = model.avx;
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
  if (!(getauxval(AT_HWCAP2) & 2))
    return make_error("this host's kernel does not enable FSGSBASE (Linux 5.9 or later does)");
  static const u32 soft_flags = host_flag_differences();
  if (soft_flags)
    log_info("engine", "this CPU's undefined flags differ (groups {:#x}): those instructions run in C++",
             soft_flags);
  options_.translate.soft_flags |= soft_flags;
  DEJA_TRY(cache_.init());
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
                          .dispatch = enter_dispatch,
                          .expired = enter_expired,
                          .host_fault = enter_host_fault,
                          .quick = run_quick,
                          .quick_done = enter_quick_done,
                          .quick_access = run_quick_access,
                          .quick_commit = run_quick_commit};
  ctx_->quick.store = &cache_.store();
  ctx_->quick.cache_exec = cache_.exec_base();
  ctx_->quick.take_crossings = options_.translate.quick;
  CodeTargets targets;
  targets.context = reinterpret_cast<u64>(ctx_);
  targets.probe_base = cache_.probe_base();
  targets.page_probe = page_probe();
  targets.cache_exec = cache_.exec_base();
  thunks_ = emit_thunks(e, targets, handlers);
  cache_.keep(static_cast<u32>(e.p - cache_.write_base()), thunks_.targets.dispatch);
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
  stop_requested_ = dropped_ = false;
  stop_reason_ = RunStop::budget;
  const i64 budget = static_cast<i64>(std::min<u64>(until - clock_.steps, static_cast<u64>(kMaxSliceSteps)));
  ctx_->end_step = clock_.steps + static_cast<u64>(budget);
  ctx_->set_remaining(budget);
  HostSignalScope signals({cache_.exec_base(), cache_.exec_base() + cache_.bytes(), cache_.probe_base(),
                           thunks_.expired, thunks_.host_fault, ctx_});
  if (options_.chaos.enabled) disturb();
  ctx_->quick.interrupt_pending = gate_.interrupt_pending(cpu.index);
  ctx_->quick.several_vcpus = vcpu_->vcpu_count > 1;
  ctx_->quick.tsc_counts_steps = clock_.rate_num == clock_.rate_den && model_.tsc_hz == 1'000'000'000;
  ctx_->quick.tsc_offset = clock_.warp_ns + cpu.msr.tsc_adjust;
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
  return stop_reason_;
}

u64 Engine::depart(u64 code) {
  if (options_.chaos.enabled) poison();
  ctx_->depart();
  return code;
}

void Engine::poison() {
  // What translated code may not rely on after a call into C++: scratch registers and the host's vector
  // registers (the guest's are reloaded from the context).
  ctx_->poison = chaos();
  asm volatile(
      "vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n vmovdqa %%ymm0, %%ymm1\n vmovdqa %%ymm0, %%ymm2\n"
      "vmovdqa %%ymm0, %%ymm3\n vmovdqa %%ymm0, %%ymm4\n vmovdqa %%ymm0, %%ymm5\n"
      "vmovdqa %%ymm0, %%ymm6\n vmovdqa %%ymm0, %%ymm7\n vmovdqa %%ymm0, %%ymm8\n"
      "vmovdqa %%ymm0, %%ymm9\n vmovdqa %%ymm0, %%ymm10\n vmovdqa %%ymm0, %%ymm11\n"
      "vmovdqa %%ymm0, %%ymm12\n vmovdqa %%ymm0, %%ymm13\n vmovdqa %%ymm0, %%ymm14\n"
      "vmovdqa %%ymm0, %%ymm15\n" ::
          : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
            "xmm12", "xmm13", "xmm14", "xmm15");
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
u64 Engine::enter_dispatch(ExecContext* ctx, u64 site, u64 r9) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  if (static_cast<u32>(site) != kNone && sign_extend(r9, 48) != r9) {
    const BranchSite& branch = e.cache_.store().branch_sites[site];
    const Block& b = e.cache_.block(branch.block);
    ctx->set_remaining(ctx->remaining() - branch.rest);
    e.sync_to(b, branch.insn);
    e.set_rip(b, branch.insn);
    ctx->state.gpr[RSP] -= static_cast<u64>(i64{branch.popped});
    e.raise(fault_gp());
    return e.depart(e.dispatch(DispatchCause::jump_miss));
  }
  ctx->state.rip = r9 - e.code_base();
  return e.depart(e.dispatch(DispatchCause::jump_miss));
}
u64 Engine::enter_expired(ExecContext* ctx, u64 id, u64) {
  Engine& e = *g_engine;
  e.ctx_->arrive();
  const Block& b = e.cache_.block(static_cast<BlockId>(id));
  ctx->set_remaining(ctx->remaining() + b.count);
  e.set_rip(b, 0);
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
  ctx_->set_remaining(ctx_->remaining() + b.count - static_cast<i64>(insn));
  update_clock();
}

void Engine::set_rip(const Block& b, unsigned insn) {
  u64 rip = ctx_->current_page + cache_.store().page_offset(b, insn) - code_base();
  if (!b.mode.has(BlockMode::kCode64)) rip &= 0xffffffff;
  ctx_->state.rip = rip;
}

void Engine::raise(const GuestFault& fault, EventKind kind) {
  ++counters_.faults;
  step_trap_ = false;
  // The instruction did not complete: what its accesses met is met again when it is restarted.
  if (kind == EventKind::fault && fault.vector != kDB) ctx_->state.pending_dbg = 0;
  if (observation_.hit_delivery(code_base() + ctx_->state.rip, ctx_->state, clock_.steps + 1))
    stop_requested_ = true;
  delivering_ = true;
  deliver_event(*vcpu_, kind, fault);
  delivering_ = false;
  ctx_->set_remaining(ctx_->remaining() - 1);
  update_clock();
}

void Engine::use_tables(const AddressSpace& space) {
  if (space.tables == gs_base_) return;
  gs_base_ = ctx_->quick.tables = space.tables;
  set_gs_base(gs_base_);
}

u64 Engine::dispatch(DispatchCause cause) {
  CpuState& s = ctx_->state;
  ++counters_.dispatches[static_cast<unsigned>(cause)];
  if (step_trap_) {
    step_trap_ = false;
    if (step_over_[0] != s.rip && step_over_[1] != s.rip) s.pending_dbg |= kDr6Bs;
    if (s.pending_dbg && s.activity == Activity::halted) s.activity = Activity::running;
  }
  const auto leave = [&](RunStop why) {
    stop_reason_ = why;
    return u64{0};
  };
  while (true) {
    dropped_ = false;
    if (stop_requested_) return leave(stop_reason_ == RunStop::pause ? RunStop::pause : RunStop::event);
    if (s.activity != Activity::running) return leave(RunStop::inactive);
    if (ctx_->remaining() <= 0) return leave(RunStop::budget);
    update_clock();
    if (s.pending_dbg && !s.mov_ss_shadow) {
      GuestFault db{kDB};
      db.dr6 = s.pending_dbg;
      s.pending_dbg = 0;
      raise(db);
      continue;
    }
    if (s.nmi_pending && !s.nmi_blocked && !s.mov_ss_shadow) {
      s.nmi_pending = false;
      ++counters_.interrupts;
      raise({kNMI}, EventKind::nmi);
      continue;
    }
    if ((s.rflags & flag::IF) && !s.sti_shadow && !s.mov_ss_shadow && gate_.interrupt_pending(s.index)) {
      const int vector = gate_.acknowledge_interrupt(s.index);
      ctx_->quick.interrupt_pending = gate_.interrupt_pending(s.index);
      if (vector >= 0) {
        ++counters_.interrupts;
        raise({static_cast<u8>(vector)}, EventKind::external_interrupt);
        continue;
      }
    }
    // Fetch.
    u64 pc = s.rip;
    unsigned limit = 0;
    if (s.mode64()) {
      if (sign_extend(pc, 48) != pc) {
        raise(fault_gp());
        continue;
      }
    } else {
      if (s.rip > s.seg[CS].limit) {
        raise(fault_gp());
        continue;
      }
      pc = (s.seg[CS].base + s.rip) & 0xffffffff;
      if (s.seg[CS].limit != 0xffffffff) {
        // Close to the segment's end every instruction is checked. Elsewhere a block, which stays in its
        // page, cannot get there, and without kFlatCode none leads to another but through here.
        const u64 room = u64{s.seg[CS].limit} - s.rip + 1;
        if (room < kPageSize + kMaxInsnBytes) limit = 1;
        if (room < kMaxInsnBytes && !instruction_fits(pc, static_cast<unsigned>(room))) {
          raise(fault_gp());
          continue;
        }
      }
    }
    const bool observed = observation_.breaks_in_page_of(pc);
    if (observed && observation_.is_cut(pc)) {
      if (observation_.hit_breakpoint(pc, s, clock_.steps)) return leave(RunStop::observed);
      limit = 1;  // so that no block leads here but through this check
    }
    const bool trap = s.rflags & flag::TF;
    if (s.sti_shadow || s.mov_ss_shadow || trap || (s.rflags & flag::RF)) limit = 1;
    if (s.dr7 & 0xff) {
      u64 hit = 0;
      for (unsigned i = 0; i < 4; ++i) {
        if (!(s.dr7 >> (2 * i) & 3) || (s.dr7 >> (16 + 4 * i) & 3)) continue;
        limit = 1;
        if (s.dr[i] == pc) hit |= u64{1} << i;
      }
      // After MOV SS it is suppressed as if RF were set (SDM vol. 3B 17.3.1.1).
      if (hit && !(s.rflags & flag::RF) && !s.mov_ss_shadow) {
        GuestFault db{kDB};
        db.dr6 = hit;
        raise(db);
        continue;
      }
    }
    if (options_.chaos.enabled && limit == 0) {
      const u64 r = chaos();
      if (r % 16 == 0) limit = 1 + (r >> 8) % 5;
      if ((r >> 16) % 4096 == 0) disturb();
    }
    BlockMode mode = mode_of(s);
    const u32 plain = mode.bits;
    ctx_->quick.system_mode = system_mode(s);
    const auto limited = [&](unsigned n) {
      return BlockMode{plain | (observed ? BlockMode::kObserved : 0u) |
                       (cause == DispatchCause::group ? BlockMode::kPlain : 0u) |
                       n << BlockMode::kLimitShift};
    };
    mode = limited(limit);
    if (limit == 0 &&
        (cause == DispatchCause::start || cause == DispatchCause::link || cause == DispatchCause::helper ||
         cause == DispatchCause::memory) &&
        !observed) {
      // Where the jump cache has the answer, the block's own head checks the counter. If that is a block that
      // was removed, its way leads back here, as a miss.
      AddressSpace& sp = space();
      const ViewTables& t = sp.tables->view[static_cast<unsigned>(mode.view())];
      if (t.jump_tag[jump_slot(pc)] + pc == 0 && t.jump_mode == plain) {
        use_tables(sp);
        ctx_->r9 = pc;
        ctx_->vectors_wanted = mode.has(BlockMode::kUser);
        return t.jump_code[jump_slot(pc)];
      }
    }
    BlockId id = find_block(pc, mode);
    if (id == kNone) continue;
    if (cache_.block(id).count > ctx_->remaining()) {
      id = find_block(pc, limited(static_cast<unsigned>(ctx_->remaining())));
      if (id == kNone) continue;
    }
    if (stop_requested_ && cache_.block(id).count > 1) {
      // The walk for this fetch was watched: stop after the instruction that it was for.
      id = find_block(pc, limited(1));
      if (id == kNone) continue;
    }
    const Block& b = cache_.block(id);
    if (limit || b.count == 1) {
      s.sti_shadow = s.mov_ss_shadow = false;
      s.rflags &= ~flag::RF;
      step_trap_ = trap;
      if (trap) note_step(pc, b);
    }
    AddressSpace& sp = space();
    use_tables(sp);
    const u64 far = cache_.exec_base() + b.far_entry;
    if (b.mode.limit() == 0 && !observed && cause != DispatchCause::group)
      spaces_.install_jump(sp, b.mode.view(), pc, far, b.mode.bits);
    else
      spaces_.set_jump_mode(sp, b.mode.view(), plain);
    ctx_->r9 = pc;
    ctx_->vectors_wanted = b.mode.has(BlockMode::kUser);
    return far;
  }
}

bool Engine::instruction_fits(u64 pc, unsigned room) {
  const CpuState& s = ctx_->state;
  u8 bytes[kMaxInsnBytes];
  unsigned got = 0;
  try {
    got = fetch(Gva(pc), bytes, room);
  } catch (const GuestFault&) {
    return true;  // has precedence, and comes when it is fetched to be run
  }
  Insn insn;
  return got < room ||
         decode(bytes, got, mode_of(s).code_size(), s.seg[SS].big(), &insn) != DecodeStatus::truncated;
}

// With IA32_DEBUGCTL.BTF only taken branches trap (SDM vol. 3B 17.4.3): going on to the next instruction, or
// to the next iteration of a REP, does not.
void Engine::note_step(u64 pc, const Block& b) {
  CpuState& s = ctx_->state;
  step_over_[0] = step_over_[1] = kNoRip;
  if (!(s.msr.debugctl & kDebugCtlBtf)) return;
  u8 bytes[kMaxInsnBytes];
  Insn insn;
  const unsigned got = fetch(Gva(pc), bytes, std::min<unsigned>(b.bytes, sizeof bytes));
  if (decode(bytes, got, b.mode.code_size(), b.mode.has(BlockMode::kStackBig), &insn) != DecodeStatus::ok)
    return;
  if (always_branches(insn.mnemonic)) return;
  step_over_[0] = s.rip;
  step_over_[1] = (s.rip + b.bytes) & (b.mode.has(BlockMode::kCode64) ? ~u64{0} : 0xffffffff);
}

BlockId Engine::find_block(u64 pc, BlockMode mode) {
  AddressSpace& sp = space();
  const View view = mode.view();
  const auto fetch_page = [&](Gva linear, Gpa* page) {
    if (spaces_.find_exec(sp, view, linear, page)) return true;
    const Walk w = walk_pages(ram_, sp.key, linear, Access::execute, view == View::user,
                              view == View::kernel_smap, model_.physical_bits);
    if (!w.ok) {
      raise(fault_pf(linear.value, w.error));
      return false;
    }
    if (!ram_.contains(w.page)) {
      log_info("guest", "instruction fetch from {:#x}, which is not RAM", w.page.value);
      raise(fault_gp());
      return false;
    }
    spaces_.install_exec(sp, view, linear, w);
    *page = w.page;
    return true;
  };
  Gpa page;
  const Gva linear(pc);
  if (!fetch_page(linear, &page)) return kNone;
  const Gpa at(page.value + linear.offset());
  BlockId id = cache_.find(at, mode);
  const bool crosses = id != kNone && cache_.block(id).second_page.value != ~u64{0};
  if (id != kNone && !crosses) return id;
  const u8* bytes = ram_.host(at);
  const unsigned in_page = static_cast<unsigned>(kPageSize - linear.offset());
  bool need_next = crosses;
  if (!crosses) {
    id = translate_at(pc, at, mode, bytes, in_page, Gpa(~u64{0}), &need_next);
    if (id != kNone) return id;
  }
  DEJA_CHECK(need_next);
  // The first instruction reaches into the next page.
  u64 next = linear.page().value + kPageSize;
  if (!mode.has(BlockMode::kCode64)) next &= 0xffffffff;
  Gpa second;
  if (!fetch_page(Gva(next), &second)) return kNone;
  if (crosses) {
    if (cache_.block(id).second_page == second) return id;
    cache_.invalidate(at, 1);
  }
  u8 joined[30];
  const unsigned head = std::min(in_page, 15u);
  std::memcpy(joined, bytes, head);
  std::memcpy(joined + head, ram_.host(second), 15);
  id = translate_at(pc, at, mode, joined, head + 15, second, &need_next);
  DEJA_CHECK(id != kNone);
  return id;
}

BlockId Engine::translate_at(u64 pc, Gpa at, BlockMode mode, const u8* bytes, unsigned size, Gpa second_page,
                             bool* need_next) {
  const Stopwatch watch(&counters_.translation_ns);
  TranslateInput input{at, mode, bytes, size, second_page, {}};
  // Of all pages: a physical page may be mapped at several of them.
  if (mode.has(BlockMode::kObserved)) input.cuts = observation_.cuts();
  for (int attempt = 0; attempt < 2; ++attempt) {
    BlockId id = kNone;
    switch (translator_->translate(input, cache_.space(), &id)) {
      case TranslateStatus::ok: {
        cache_.take(cache_.block(id));
        cache_.add(id);
        if (options_.list_block == pc)
          log_info("translate", "{}",
                   list_block(cache_.store(), cache_.block(id), *translator_, cache_.write_base(),
                              cache_.exec_base(), pc));
        ++counters_.blocks;
        counters_.translated_insns += cache_.block(id).count;
        for (const Gpa p : {at.page(), second_page}) {
          if (p.value == ~u64{0} || (ram_.flags(p.frame()) & GuestRam::kCode)) continue;
          if (ram_.flags(p.frame()) & GuestRam::kWriteCached) spaces_.drop_writable(p.frame());
          ram_.flags(p.frame()) |= GuestRam::kCode;
        }
        return id;
      }
      case TranslateStatus::need_next_page:
        *need_next = true;
        return kNone;
      case TranslateStatus::cache_full: {
        const CodeCache::Evicted evicted = cache_.next_region();
        if (evicted.blocks) ++counters_.cache_evictions;
        counters_.evicted_blocks += evicted.blocks;
        spaces_.drop_jumps_into(evicted.begin, evicted.end);
        break;
      }
    }
  }
  DEJA_UNREACHABLE("code cache of {} bytes is too small for one block", cache_.bytes());
}

u64 Engine::link(u32 site) {
  ++counters_.links;
  // By value: translating moves the tables.
  const LinkSite l = cache_.store().link_sites[site];
  const u64 evictions = counters_.cache_evictions, flushes = counters_.cache_flushes;
  const u32 plain = l.plain ? BlockMode::kPlain : 0u;
  const BlockMode mode{(cache_.block(l.block).mode.bits & ~BlockMode::kPlain) | plain};
  const Gpa expected(cache_.block(l.block).pc.page().value + l.target);
  const u64 pc = ctx_->current_page + l.target;
  ctx_->state.rip = (pc - code_base()) & (mode.has(BlockMode::kCode64) ? ~u64{0} : 0xffffffff);
  const u64 code = dispatch(l.plain ? DispatchCause::group : DispatchCause::link);
  // Link when dispatch chose just the plain block at the target, and nothing moved meanwhile.
  if (!code || counters_.cache_evictions != evictions || counters_.cache_flushes != flushes) return code;
  const Block& from = cache_.block(l.block);
  if (!from.valid || from.second_page.value != ~u64{0}) return code;
  const BlockId id = cache_.find(expected, mode);
  if (id == kNone || cache_.block(id).second_page.value != ~u64{0}) return code;
  if (code != cache_.exec_base() + cache_.block(id).far_entry) return code;
  if (id != l.block || !from.small_loop) {
    cache_.set_link(site, id);
  } else if (++cache_.store().link_sites[site].turns >= options_.translate.unroll_after) {
    // Who jumps to a removed block, as we do, comes to the dispatcher.
    translator_->unroll(from.pc, from.mode);
    cache_.remove(id);
  }
  return code;
}

u64 Engine::run_helper(u32 site) {
  HelperSite& h = cache_.store().helper_sites[site];
  ++counters_.helpers[h.decoded.mnemonic];
  const BlockId block_id = h.block;
  const unsigned index = h.insn;
  const bool ends = h.ends_block;
  {
    const Block& b = cache_.block(block_id);
    sync_to(b, index);
    set_rip(b, index);
  }
  const unsigned count = cache_.block(block_id).count;
  const u32 resume = h.resume;
  CpuState& s = ctx_->state;
  if (h.raise != 0xff) {
    GuestFault f{h.raise};
    f.has_error = h.raise == kGP;
    raise(f);
    return dispatch(DispatchCause::helper);
  }
  if (!h.function) h.function = reinterpret_cast<void*>(find_helper(h.decoded));
  vcpu_->next_rip = s.rip + h.decoded.length;
  if (h.decoded.code_size != CodeSize::bits64)
    vcpu_->next_rip &= h.decoded.code_size == CodeSize::bits32 ? 0xffffffff : 0xffff;
  // These trap by the TF that they leave: INT n clears it, FMASK of SYSCALL may, and SYSRET traps in the
  // caller at once. SYSENTER leaves it alone.
  const bool traps_by_new_flags =
      h.decoded.mnemonic == ZYDIS_MNEMONIC_SYSCALL || h.decoded.mnemonic == ZYDIS_MNEMONIC_SYSRET ||
      h.decoded.mnemonic == ZYDIS_MNEMONIC_INT || h.decoded.mnemonic == ZYDIS_MNEMONIC_INT3 ||
      h.decoded.mnemonic == ZYDIS_MNEMONIC_INTO || h.decoded.mnemonic == ZYDIS_MNEMONIC_INT1;
  try {
    reinterpret_cast<InsnHelper>(h.function)(*vcpu_, h.decoded);
  } catch (const GuestFault& fault) {
    raise(fault);
    return dispatch(DispatchCause::helper);
  }
  if (traps_by_new_flags) {
    if (!step_trap_) step_over_[0] = step_over_[1] = kNoRip;
    step_trap_ = s.rflags & flag::TF;
  }
  // The local APIC's TSC deadline moves with the TSC.
  if (h.decoded.mnemonic == ZYDIS_MNEMONIC_WRMSR &&
      ((s.gpr[RCX] & 0xffffffff) == 0x10 || (s.gpr[RCX] & 0xffffffff) == 0x3b))
    stop_requested_ = true;
  if (s.pause_run >= kPausesPerQuantum && vcpu_->vcpu_count > 1) {
    stop_requested_ = true;
    stop_reason_ = RunStop::pause;
  }
  if (!ends && !stop_requested_ && !dropped_ && !s.pending_dbg) {
    // Back into the block, whose whole count is off the counter.
    ctx_->set_remaining(ctx_->remaining() - static_cast<i64>(count - index));
    return resume_in(cache_.block(block_id), resume);
  }
  ctx_->set_remaining(ctx_->remaining() - 1);
  s.rip = vcpu_->next_rip;
  return dispatch(DispatchCause::helper);
}

u64 Engine::host_fault(u64 r9) {
  const u32 site = cache_.site_before(ctx_->host_fault_pc);
  MemSite* const access = site == kNone ? nullptr : &cache_.store().mem_sites[site];
  if (access && access->base != 0xff) r9 = ctx_->state.gpr[access->base];
  if (access && cache_.exec_base() + access->probe == ctx_->host_fault_pc) {
    ++counters_.probe_faults;
    if (++access->faults >= kFaultsPerProbe) cache_.make_branching(site, *translator_);
    return mem_slow(site, r9);
  }
  BlockId id = kNone;
  unsigned insn = 0;
  DEJA_CHECK(cache_.locate(ctx_->host_fault_pc, &id, &insn), "host fault at {:#x}, outside every block",
             ctx_->host_fault_pc);
  const Block& b = cache_.block(id);
  sync_to(b, insn);
  set_rip(b, insn);
  deferred_fault_.reset();  // the instruction's own exception came first
  switch (ctx_->host_fault_trap) {
    case 0:
      raise({kDE});
      break;
    case 13: {
      // A misaligned operand; or one outside the canonical addresses, some of which pass the lookup
      // (page_probe.cc).
      const bool canonical = !b.mode.has(BlockMode::kCode64) || sign_extend(r9, 48) == r9;
      const bool own = access && access->block == id && access->insn == insn;
      const bool misaligned =
          own && access->align && (r9 + static_cast<u64>(i64{access->before})) % access->align;
      raise(!canonical && own && !misaligned && access->segment == SS ? fault_ss() : fault_gp());
      break;
    }
    case 16:
      raise({kMF});
      break;
    case 19:
      raise({b.mode.has(BlockMode::kXmUd) ? u8{kUD} : u8{kXM}});
      break;
    default:
      DEJA_UNREACHABLE("host exception {} at {:#x}, guest rip {:#x}", ctx_->host_fault_trap,
                       ctx_->host_fault_pc, ctx_->state.rip);
  }
  return dispatch(DispatchCause::host_fault);
}

// --- memory

View Engine::view_for(Rights rights) const {
  const CpuState& s = ctx_->state;
  const bool smap = s.cr4 & cr4bit::SMAP;
  switch (rights) {
    case Rights::user:
      return View::user;
    case Rights::supervisor:
      return smap ? View::kernel_smap : View::kernel;
    case Rights::current:
      break;
  }
  if (s.cpl() == 3) return View::user;
  return smap && !(s.rflags & flag::AC) ? View::kernel_smap : View::kernel;
}

AddressSpace& Engine::space() {
  if (!space_) space_ = &spaces_.select(paging_key(ctx_->state), &counters_.space_recycles);
  return *space_;
}

void Engine::check_canonical(Gva linear, unsigned size) const {
  if (!ctx_->state.mode64()) return;
  if (sign_extend(linear.value, 48) != linear.value ||
      sign_extend(linear.value + size - 1, 48) != linear.value + size - 1)
    throw fault_gp();
}

bool Engine::translate(Gva linear, Access access, View view, Gpa* page, u32* error) {
  AddressSpace& sp = space();
  const Walk w = walk_pages(ram_, sp.key, linear, access, view == View::user, view == View::kernel_smap,
                            model_.physical_bits);
  if (!w.ok) {
    *error = w.error;
    return false;
  }
  *page = w.page;
  if (observation_.follows_linear() && observation_.translated(sp.key, linear.page(), w.page)) {
    spaces_.flush_all();
    dropped_ = true;
  }
  if (ram_.contains(w.page) && access != Access::execute) spaces_.install(sp, view, linear, w, w.writable);
  return true;
}

void Engine::note_data_access(Gva linear, unsigned size, bool write) {
  CpuState& s = ctx_->state;
  for (unsigned i = 0; i < 4; ++i) {
    if (!(s.dr7 >> (2 * i) & 3)) continue;
    const unsigned rw = s.dr7 >> (16 + 4 * i) & 3, len = s.dr7 >> (18 + 4 * i) & 3;
    if (!(rw == 3 || (rw == 1 && write))) continue;
    const u64 bytes = len == 2 ? 8 : len + 1u;
    const u64 from = s.dr[i] & ~(bytes - 1);
    if (linear.value < from + bytes && from < linear.value + size) s.pending_dbg |= u64{1} << i;
  }
}

bool Engine::misaligned(const MemSite& site, const Block& block, u64 linear) {
  if (!site.checked || !block.mode.has(BlockMode::kAlignCheck)) return false;
  // An 80-bit operand wants a multiple of 8 (SDM vol. 3A table 6-7).
  const unsigned multiple = site.size == 10 ? 8 : site.size <= 8 ? site.size : 1;
  return linear & (multiple - 1);
}

bool Engine::group_cached(const MemSite& site, Gva linear, View view) {
  const Gva first(linear.value - static_cast<u64>(i64{site.before}));
  return first.offset() + site.span <= kPageSize && cached(first, site.group_writes, view);
}

u64 Engine::leave_group(u32 site_id) {
  MemSite& site = cache_.store().mem_sites[site_id];
  const BlockId id = site.block;
  const bool direct = translator_->can_leave_directly(site);
  sync_to(cache_.block(id), site.insn);
  set_rip(cache_.block(id), site.insn);
  if (site.misses++ == 0) site.first_miss = clock_.steps;
  if (site.misses >= kGroupMisses) {
    // Hardly worth it when it happens again and again.
    const u64 steps = (direct ? kStepsPerDirectMiss : kStepsPerGroupMiss) * kGroupMisses;
    if (clock_.steps - site.first_miss < steps) {
      const Block& b = cache_.block(id);
      translator_->avoid_groups(b.pc, b.mode);
      cache_.remove(id);
    } else {
      site.misses = 0;
      if (direct) cache_.make_leaving(site_id, *translator_);
    }
  }
  return dispatch(DispatchCause::group);
}

u64 Engine::mem_slow(u32 site_id, u64 looked_up) {
  ++counters_.slow_accesses;
  MemSite& site = cache_.store().mem_sites[site_id];
  const u64 address = looked_up + static_cast<u64>(i64{site.before});
  const Block& b = cache_.block(site.block);
  const Block* block = &b;
  const unsigned insn = site.insn;
  const i64 entered = ctx_->remaining();
  const auto fail = [&](const GuestFault& f) {
    if (site.converts || (site.x87_store && f.vector != kMF && store_may_be_suppressed()))
      return try_before_fault(site_id, entered, f);
    if (site.mmx_store && f.vector != kMF) {
      host_x87_save(x87_before_);
      x87_set_top(x87_before_, 0);
      host_x87_load(x87_before_);
    }
    sync_to(*block, insn);
    set_rip(*block, insn);
    raise(f);
    return dispatch(DispatchCause::memory);
  };
  if (site.waits_fpu && (host_fsw() & fsw::ES)) return fail({kMF});
  const Access access = site.write ? Access::write : Access::read;
  Gva linear(address);
  const View view = b.mode.view();
  if (site.align) {
    // Before the canonical check, and #GP even in the stack segment.
    const bool add_base = site.checked && (site.segment >= FS || !b.mode.has(BlockMode::kCode64));
    if ((address + (add_base ? ctx_->state.seg[site.segment].base : 0)) % site.align) return fail(fault_gp());
  }
  if (site.checked) {
    try {
      linear = linear_address(*vcpu_, static_cast<Seg>(site.segment), address, site.size, access);
    } catch (const GuestFault& f) {
      // An operand that begins below the end of the canonical addresses is misaligned first.
      const u64 from = address + (site.segment >= FS ? ctx_->state.seg[site.segment].base : 0);
      const bool begins = b.mode.has(BlockMode::kCode64) && sign_extend(from, 48) == from;
      return fail(begins && misaligned(site, b, from) ? fault_ac() : f);
    }
  } else if (b.mode.has(BlockMode::kCode64)) {
    const u64 last = linear.value + site.size - 1;
    if (sign_extend(linear.value, 48) != linear.value || sign_extend(last, 48) != last)
      return fail(site.segment == SS ? fault_ss() : fault_gp());
  }
  if (misaligned(site, b, linear.value)) return fail(fault_ac());
  const unsigned in_page = static_cast<unsigned>(kPageSize - linear.offset());
  const bool crosses = site.size > in_page;
  Gpa page;
  u32 error = 0;
  // The walk is this instruction's.
  sync_to(b, insn);
  set_rip(b, insn);
  ctx_->set_remaining(entered);
  // Of an operand in two pages nothing is to be filled in when the TLB has both.
  const auto find_page = [&](Gva at, Gpa* found) {
    const u8* const host = crosses ? cached(at, site.write, view) : nullptr;
    if (host) *found = Gpa(static_cast<u64>(host - ram_.base())).page();
    return host || translate(at, access, view, found, &error);
  };
  if (!find_page(linear, &page)) return fail(fault_pf(linear.value, error));
  // On the bounce buffer when the run has to end after this instruction.
  if (!crosses && !site.checked && !dropped_ && !stop_requested_ && cached(linear, site.write, view)) {
    if (!site.span || group_cached(site, linear, view)) {
      ++counters_.tlb_fills;
      ctx_->r9 = linear.value - static_cast<u64>(i64{site.before});
      return resume_in(b, site.hot);
    }
  }
  if (site.span && !stop_requested_) return leave_group(site_id);
  if (crosses)
    ++counters_.crossings;
  else if (!ram_.contains(page))
    ++counters_.mmio;
  else if (site.write && (ram_.flags(page.frame()) & GuestRam::kTracked))
    ++counters_.tracked;
  parts_[0] = {page + linear.offset(), std::min<unsigned>(site.size, in_page)};
  part_count_ = 1;
  if (crosses) {
    u64 second = linear.page().value + kPageSize;
    if (!b.mode.has(BlockMode::kCode64)) second &= 0xffffffff;
    Gpa page2;
    if (!find_page(Gva(second), &page2)) return fail(fault_pf(second, error));
    parts_[1] = {page2, site.size - in_page};
    part_count_ = 2;
  }
  if (site.checked && b.mode.has(BlockMode::kSlowData)) note_data_access(linear, site.size, site.write);
  sync_to(b, insn);
  if (site.read) {
    unsigned done = 0;
    for (unsigned i = 0; i < part_count_; ++i) {
      const Part& p = parts_[i];
      if (ram_.contains(p.at)) {
        std::memcpy(ctx_->bounce + done, ram_.host(p.at), p.size);
        if (ram_.flags(p.at.frame()) & GuestRam::kReadWatched)
          note_access(p.at, p.size, false, AccessCause::instruction);
      } else {
        for (unsigned at = 0; at < p.size;) {
          const unsigned n = std::min(p.size - at, 8u);
          const u64 value = gate_.mmio_read(ctx_->state.index, p.at + at, n);
          std::memcpy(ctx_->bounce + done + at, &value, n);
          at += n;
        }
      }
      done += p.size;
    }
  }
  ctx_->set_remaining(entered);
  return run_on_bounce(site_id);
}

u64 Engine::run_on_bounce(u32 site_id) {
  cache_.make_special_copies(site_id, *translator_);
  const MemSite& site = cache_.store().mem_sites[site_id];
  ctx_->r9 = reinterpret_cast<u64>(ctx_->bounce);
  ctx_->r10 = 0;
  return resume_in(cache_.block(site.block), site.special);
}

bool Engine::store_may_be_suppressed() { return ~host_fcw() & kStoreSuppressing; }

u64 Engine::try_before_fault(u32 site_id, i64 entered, const GuestFault& fault) {
  host_x87_save(x87_before_);
  deferred_fault_ = fault;
  part_count_ = 0;
  ctx_->set_remaining(entered);
  return run_on_bounce(site_id);
}

u64 Engine::mem_commit(MemSite& site) {
  const Block& b = cache_.block(site.block);
  const i64 entered = ctx_->remaining();
  const unsigned insn = site.insn;
  sync_to(b, insn);
  const bool suppressed = site.x87_store && (host_fsw() & ~host_fcw() & kStoreSuppressing);
  if (deferred_fault_) {
    const GuestFault fault = *deferred_fault_;
    deferred_fault_.reset();
    if (!suppressed) {
      if (site.x87_store) host_x87_load(x87_before_);
      set_rip(b, insn);
      raise(fault);
      return dispatch(DispatchCause::memory);
    }
  }
  if (site.write && !suppressed) {
    set_rip(b, insn);
    unsigned done = 0;
    for (unsigned i = 0; i < part_count_; ++i) {
      const Part& p = parts_[i];
      if (ram_.writable(p.at)) {
        write_ram(p.at, ctx_->bounce + done, p.size, AccessCause::instruction);
      } else {
        for (unsigned at = 0; at < p.size;) {
          const unsigned n = std::min(p.size - at, 8u);
          u64 value = 0;
          std::memcpy(&value, ctx_->bounce + done + at, n);
          gate_.mmio_write(ctx_->state.index, p.at + at, value, n);
          at += n;
        }
      }
      done += p.size;
    }
  }
  // The rest of a group cannot do without its first lookup.
  const bool stop = stop_requested_ || dropped_ || ctx_->state.pending_dbg || site.span;
  if (stop && site.after != AfterSite::resume_only) {
    ctx_->set_remaining(ctx_->remaining() - 1);
    const u64 mask = b.mode.has(BlockMode::kCode64) ? ~u64{0} : 0xffffffff;
    u64 next = 0;
    switch (site.after) {
      case AfterSite::next_insn:
        next = ctx_->current_page + cache_.store().page_offset(b, insn + 1);
        break;
      case AfterSite::direct_target:
        next = ctx_->current_page + static_cast<u64>(i64{site.target});
        break;
      case AfterSite::branch_target:
        next = ctx_->branch_target;
        break;
      case AfterSite::resume_only:
        break;
    }
    ctx_->state.rip = (next - (site.after == AfterSite::branch_target ? 0 : code_base())) & mask;
    return dispatch(DispatchCause::memory);
  }
  ctx_->set_remaining(entered);
  if (stop) {
    // The instruction has more to do and ends its block: let the counter run out at the next block's head.
    ctx_->end_step -= static_cast<u64>(entered);
    ctx_->set_remaining(0);
  }
  return resume_in(b, site.after == AfterSite::resume_only ? site.special_resume : site.resume);
}

void Engine::write_ram(Gpa at, const void* data, u64 size, AccessCause cause) {
  const u8 flags = ram_.flags(at.frame());
  if (flags & (GuestRam::kPageTable | GuestRam::kUpperTable)) {
    if (spaces_.table_write(at, data, size)) {
      dropped_ = true;
      ++counters_.table_drops;
    }
  }
  std::memcpy(ram_.host(at), data, size);
  ram_.mark_dirty(at.frame());
  if (flags & GuestRam::kCode) invalidate_code(at, size);
  if (flags & GuestRam::kWatched) note_access(at, size, true, cause);
}

void Engine::note_access(Gpa at, u64 size, bool write, AccessCause cause) {
  const bool by_cpu = running_ && cause != AccessCause::device && cause != AccessCause::loader;
  // The run ends after the instruction in progress, whose step that is; devices act between steps.
  const Step after = clock_.steps + (running_ ? 1 : 0);
  if (observation_.accessed(at, size, write, cause, by_cpu ? &ctx_->state : nullptr, after))
    stop_requested_ = true;
}

AccessCause Engine::implicit_cause(Gva linear, Rights rights) const {
  const CpuState& s = ctx_->state;
  const auto within = [&](u64 base, u64 limit) { return linear.value - base <= limit; };
  if (rights == Rights::supervisor) {
    if (within(s.gdtr.base, s.gdtr.limit) || within(s.ldtr.base, s.ldtr.limit))
      return AccessCause::descriptor;
    if (within(s.tr.base, s.tr.limit)) return AccessCause::task_state;
  }
  return delivering_ ? AccessCause::delivery : AccessCause::instruction;
}

void Engine::invalidate_code(Gpa at, u64 size) {
  if (cache_.invalidate(at, size) == 0) return;
  ++counters_.code_invalidations;
  dropped_ = true;
}

void Engine::tracked_page_written(Gpa at, u64 size) {
  if (ram_.flags(at.frame()) & (GuestRam::kPageTable | GuestRam::kUpperTable))
    if (spaces_.table_write(at, nullptr, size)) dropped_ = true;
  if (ram_.flags(at.frame()) & GuestRam::kCode) invalidate_code(at, size);
  if (ram_.flags(at.frame()) & GuestRam::kWatched) note_access(at, size, true, device_cause_);
}

void Engine::walk_marked(Gpa entry) { note_access(entry, 1, true, AccessCause::page_walk); }

void Engine::read_bytes(Gva linear, void* out, unsigned size, Rights rights) {
  check_canonical(linear, size);
  const View view = view_for(rights);
  u8* to = static_cast<u8*>(out);
  if (ctx_->state.dr7 & 0xff) note_data_access(linear, size, false);
  Gpa pages[2];
  const unsigned in_page = static_cast<unsigned>(kPageSize - linear.offset());
  if (size <= in_page) {
    if (const u8* p = cached(linear, false, view)) {
      std::memcpy(out, p, size);
      return;
    }
  }
  DEJA_CHECK(size <= kPageSize);
  u32 error = 0;
  u64 at = linear.value;
  unsigned sizes[2] = {std::min(size, in_page), size > in_page ? size - in_page : 0};
  for (unsigned i = 0; i < 2 && sizes[i]; ++i) {
    if (!ctx_->state.mode64()) at &= 0xffffffff;
    if (!translate(Gva(at), Access::read, view, &pages[i], &error)) throw fault_pf(at, error);
    at = Gva(at).page().value + kPageSize;
  }
  Gpa from = pages[0] + linear.offset();
  for (unsigned i = 0; i < 2 && sizes[i]; ++i) {
    if (i == 1) from = pages[1];
    if (ram_.contains(from)) {
      std::memcpy(to, ram_.host(from), sizes[i]);
      if (ram_.flags(from.frame()) & GuestRam::kReadWatched)
        note_access(from, sizes[i], false, implicit_cause(linear, rights));
    } else {
      for (unsigned k = 0; k < sizes[i];) {
        const unsigned n = std::min(sizes[i] - k, 8u);
        const u64 value = gate_.mmio_read(ctx_->state.index, from + k, n);
        std::memcpy(to + k, &value, n);
        k += n;
      }
    }
    to += sizes[i];
  }
}

void Engine::write_bytes(Gva linear, const void* data, unsigned size, Rights rights) {
  check_canonical(linear, size);
  const View view = view_for(rights);
  const u8* from = static_cast<const u8*>(data);
  if (ctx_->state.dr7 & 0xff) note_data_access(linear, size, true);
  const unsigned in_page = static_cast<unsigned>(kPageSize - linear.offset());
  if (size <= in_page) {
    if (u8* p = cached(linear, true, view)) {
      std::memcpy(p, data, size);
      return;
    }
  }
  DEJA_CHECK(size <= kPageSize);
  u32 error = 0;
  u64 at = linear.value;
  Gpa pages[2];
  unsigned sizes[2] = {std::min(size, in_page), size > in_page ? size - in_page : 0};
  for (unsigned i = 0; i < 2 && sizes[i]; ++i) {
    if (!ctx_->state.mode64()) at &= 0xffffffff;
    if (!translate(Gva(at), Access::write, view, &pages[i], &error)) throw fault_pf(at, error);
    at = Gva(at).page().value + kPageSize;
  }
  Gpa to = pages[0] + linear.offset();
  for (unsigned i = 0; i < 2 && sizes[i]; ++i) {
    if (i == 1) to = pages[1];
    if (ram_.writable(to)) {
      write_ram(to, from, sizes[i], implicit_cause(linear, rights));
    } else {
      for (unsigned k = 0; k < sizes[i];) {
        const unsigned n = std::min(sizes[i] - k, 8u);
        u64 value = 0;
        std::memcpy(&value, from + k, n);
        gate_.mmio_write(ctx_->state.index, to + k, value, n);
        k += n;
      }
    }
    from += sizes[i];
  }
}

void Engine::probe(Gva linear, unsigned size, Access access, Rights rights) {
  if (size == 0) return;
  check_canonical(linear, size);
  const View view = view_for(rights);
  const u64 last = linear.value + size - 1;
  for (u64 at = linear.value;; at = Gva(at).page().value + kPageSize) {
    const u64 lin = ctx_->state.mode64() ? at : at & 0xffffffff;
    Gpa page;
    u32 error = 0;
    if (access == Access::execute || !cached(Gva(lin), access == Access::write, view))
      if (!translate(Gva(lin), access, view, &page, &error)) throw fault_pf(lin, error);
    if (Gva(at).page() == Gva(last).page()) break;
  }
}

unsigned Engine::fetch(Gva address, u8* out, unsigned size) {
  const View view = view_for(Rights::current);
  unsigned done = 0;
  while (done < size) {
    Gpa page;
    u32 error = 0;
    const Gva at = address + done;
    if (!translate(at, Access::execute, view, &page, &error)) {
      if (done) return done;
      throw fault_pf(at.value, error);
    }
    if (!ram_.contains(page)) {
      if (done) return done;
      throw fault_gp();
    }
    const unsigned n = std::min<unsigned>(size - done, static_cast<unsigned>(kPageSize - at.offset()));
    std::memcpy(out + done, ram_.host(page + at.offset()), n);
    done += n;
  }
  return done;
}

const u8* Engine::map_read(Gva linear, unsigned size) {
  check_canonical(linear, size);
  const View view = view_for(Rights::current);
  if (ctx_->state.dr7 & 0xff) note_data_access(linear, size, false);
  if (const u8* p = cached(linear, false, view)) return p;
  Gpa page;
  u32 error = 0;
  if (!translate(linear, Access::read, view, &page, &error)) throw fault_pf(linear.value, error);
  if (!ram_.contains(page)) return nullptr;
  // A part of it may be all that is used: then each access is noted by itself.
  if ((ram_.flags(page.frame()) & GuestRam::kReadWatched) &&
      observation_.overlaps(page + linear.offset(), size))
    return nullptr;
  return ram_.host(page + linear.offset());
}

u8* Engine::map_write(Gva linear, unsigned size) {
  check_canonical(linear, size);
  const View view = view_for(Rights::current);
  if (ctx_->state.dr7 & 0xff) note_data_access(linear, size, true);
  if (u8* p = cached(linear, true, view)) return p;
  Gpa page;
  u32 error = 0;
  if (!translate(linear, Access::write, view, &page, &error)) throw fault_pf(linear.value, error);
  if (!ram_.writable(page)) return nullptr;
  const u64 frame = page.frame();
  if (ram_.flags(frame) & GuestRam::kTracked) {
    // A page that is about to be filled as a whole is rarely code or a page table any more.
    if (size < kPageSize / 2) return nullptr;
    const Gpa at = page + linear.offset();
    if ((ram_.flags(frame) & GuestRam::kWatched) && observation_.overlaps(at, size)) return nullptr;
    if (ram_.flags(frame) & (GuestRam::kPageTable | GuestRam::kUpperTable))
      if (spaces_.table_write(at, nullptr, size)) dropped_ = true;
    if (ram_.flags(frame) & GuestRam::kCode) invalidate_code(at, size);
  }
  ram_.mark_dirty(frame);
  return ram_.host(page + linear.offset());
}

// --- chaos

void Engine::disturb() {
  const u64 r = chaos();
  if (r % 64 == 0) {
    flush_caches();
    TranslateOptions& o = translator_->options();
    o.max_insns = 1 + chaos() % 64;
    for (bool TranslateOptions::*on : {&TranslateOptions::extend, &TranslateOptions::elide,
                                       &TranslateOptions::probes, &TranslateOptions::unroll})
      o.*on = asked_.*on && chaos() % 4 != 0;
  } else if (r % 64 < 8) {
    spaces_.flush_all();
  } else if (r % 64 < 16) {
    spaces_.flush_all_jumps();
  } else if (r % 64 < 32) {
    // Mark pages dirty that are not.
    for (int i = 0; i < 4; ++i) {
      const u64 frame = chaos() % ram_.frames();
      if (ram_.contains(Gpa(frame << kPageShift))) ram_.mark_dirty(frame);
    }
  }
}

}  // namespace deja
