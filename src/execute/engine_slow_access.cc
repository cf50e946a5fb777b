// Memory accesses of translated code that its inline lookup leaves to C++: misses, faults, operands in two
// pages, MMIO, writes to tracked pages. Where there is no host address for an operand, its instruction runs
// on a bounce buffer.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "execute/engine.h"
#include "semantics/fpu/fpu_state.h"
#include "semantics/segments.h"

namespace deja {
namespace {

// A group of accesses is given up when its lookup has missed this often, on average after fewer steps than
// this.
constexpr u32 kGroupMisses = 16;
constexpr u64 kStepsPerGroupMiss = 1000;
// The same where the way to a block without groups need not lead through C++.
constexpr u64 kStepsPerDirectMiss = 50;

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
bool store_may_be_suppressed() { return ~host_fcw() & kStoreSuppressing; }

}  // namespace

bool Engine::misaligned(const MemSite& site, const Block& block, Gva linear) {
  if (!site.checked || !block.mode.has(BlockMode::kAlignCheck)) return false;
  // An 80-bit operand wants a multiple of 8 (SDM vol. 3A table 6-7).
  const unsigned multiple = site.size == 10 ? 8 : site.size <= 8 ? site.size : 1;
  return linear.value & (multiple - 1);
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
  const MemSite& site = cache_.store().mem_sites[site_id];
  const SlowAccess a{site_id, site, cache_.block(site.block), ctx_->remaining()};
  if (site.waits_fpu && (host_fsw() & fsw::ES)) return fail_access(a, {kMF});
  Gva first;
  if (const auto fault = check_access(a, looked_up + static_cast<u64>(i64{site.before}), &first))
    return fail_access(a, *fault);
  // The walks are this instruction's.
  sync_to(a.block, site.insn);
  set_rip(a.block, site.insn);
  ctx_->set_remaining(a.entered);
  const Linear operand = linear(first);
  const unsigned in_page = std::min<unsigned>(site.size, operand.in_page());
  const bool crosses = in_page < site.size;
  GuestFault fault;
  Gpa page;
  if (!find_operand_page(a, first, crosses, &page, &fault)) return fail_access(a, fault);
  if (found_inline(a, first, crosses)) {
    ++counters_.tlb_fills;
    ctx_->r9 = first.value - static_cast<u64>(i64{site.before});
    return resume_in(a.block, site.hot);
  }
  if (site.span && !run_.stop_requested) return leave_group(site_id);
  count_slow_access(a, page, crosses);
  bounce_.begin();
  bounce_.add(page + first.offset(), in_page);
  if (crosses) {
    if (!find_operand_page(a, operand.after(in_page), crosses, &page, &fault)) return fail_access(a, fault);
    bounce_.add(page, site.size - in_page);
  }
  if (site.checked && a.block.mode.has(BlockMode::kSlowData))
    note_data_access(operand, site.size, site.write);
  if (site.read) {
    sync_to(a.block, site.insn);
    u8* to = ctx_->bounce;
    for (const BounceAccess::Part& p : bounce_.parts()) {
      load(p.at, to, p.size, AccessCause::instruction);
      to += p.size;
    }
    ctx_->set_remaining(a.entered);
  }
  return run_on_bounce(site_id);
}

std::optional<GuestFault> Engine::check_access(const SlowAccess& a, u64 offset, Gva* linear) const {
  const MemSite& site = a.site;
  const BlockMode mode = a.block.mode;
  const CpuState& s = ctx_->state;
  *linear = Gva(offset);
  if (site.align) {
    // Before the canonical check, and #GP even in the stack segment.
    const bool add_base = site.checked && (site.segment >= FS || !mode.has(BlockMode::kCode64));
    if ((offset + (add_base ? s.seg[site.segment].base : 0)) % site.align) return fault_gp();
  }
  if (site.checked) {
    try {
      *linear = linear_address(*vcpu_, static_cast<Seg>(site.segment), offset, site.size,
                               site.write ? Access::write : Access::read);
    } catch (const GuestFault& f) {
      // An operand that begins below the end of the canonical addresses is misaligned first.
      const Gva from(offset + (site.segment >= FS ? s.seg[site.segment].base : 0));
      const bool begins = mode.has(BlockMode::kCode64) && is_canonical(s, from.value);
      return begins && misaligned(site, a.block, from) ? fault_ac() : f;
    }
  } else if (mode.has(BlockMode::kCode64) && !is_canonical(s, offset, site.size)) {
    return site.segment == SS ? fault_ss() : fault_gp();
  }
  if (misaligned(site, a.block, *linear)) return fault_ac();
  return std::nullopt;
}

u64 Engine::fail_access(const SlowAccess& a, const GuestFault& fault) {
  const MemSite& site = a.site;
  const bool memory_fault = fault.vector != kMF;
  if (site.converts || (site.x87_store && memory_fault && store_may_be_suppressed())) {
    bounce_.try_before(fault);
    ctx_->set_remaining(a.entered);
    return run_on_bounce(a.id);
  }
  if (site.mmx_store && memory_fault) {
    FpuState x87;
    host_x87_save(x87);
    x87_set_top(x87, 0);
    host_x87_load(x87);
  }
  sync_to(a.block, site.insn);
  set_rip(a.block, site.insn);
  raise(fault);
  return dispatch(DispatchCause::memory);
}

bool Engine::find_operand_page(const SlowAccess& a, Gva at, bool crosses, Gpa* page, GuestFault* fault) {
  const View view = a.block.mode.view();
  // When the TLB has both pages of an operand, nothing is to be filled in.
  if (const u8* const host = crosses ? cached(at, a.site.write, view) : nullptr) {
    *page = Gpa(static_cast<u64>(host - ram_.base())).page();
    return true;
  }
  u32 error = 0;
  if (translate(at, a.site.write ? Access::write : Access::read, view, page, &error)) return true;
  *fault = fault_pf(at.value, error);
  return false;
}

bool Engine::found_inline(const SlowAccess& a, Gva linear, bool crosses) {
  // On the bounce buffer when the run has to end after this instruction.
  if (crosses || a.site.checked || run_.dropped || run_.stop_requested) return false;
  const View view = a.block.mode.view();
  return cached(linear, a.site.write, view) && (!a.site.span || group_cached(a.site, linear, view));
}

void Engine::count_slow_access(const SlowAccess& a, Gpa page, bool crosses) {
  if (crosses)
    ++counters_.crossings;
  else if (!ram_.contains(page))
    ++counters_.mmio;
  else if (a.site.write && (ram_.flags(page.frame()) & GuestRam::kTracked))
    ++counters_.tracked;
}

u64 Engine::run_on_bounce(u32 site_id) {
  cache_.make_special_copies(site_id, *translator_);
  const MemSite& site = cache_.store().mem_sites[site_id];
  ctx_->r9 = reinterpret_cast<u64>(ctx_->bounce);
  ctx_->r10 = 0;
  return resume_in(cache_.block(site.block), site.special);
}

u64 Engine::mem_commit(u32 site_id, u64) {
  const MemSite& site = cache_.store().mem_sites[site_id];
  const Block& b = cache_.block(site.block);
  const i64 entered = ctx_->remaining();
  sync_to(b, site.insn);
  const bool suppressed = site.x87_store && (host_fsw() & ~host_fcw() & kStoreSuppressing);
  if (const auto fault = bounce_.take_deferred(); fault && !suppressed) {
    if (site.x87_store) bounce_.restore_x87();
    set_rip(b, site.insn);
    raise(*fault);
    return dispatch(DispatchCause::memory);
  }
  if (site.write && !suppressed) {
    set_rip(b, site.insn);
    const u8* from = ctx_->bounce;
    for (const BounceAccess::Part& p : bounce_.parts()) {
      store(p.at, from, p.size, AccessCause::instruction);
      from += p.size;
    }
  }
  // The rest of a group cannot do without its first lookup.
  const bool stop = run_.stop_requested || run_.dropped || ctx_->state.pending_dbg || site.span;
  if (stop && site.after != AfterSite::resume_only) return leave_behind(site, b);
  ctx_->set_remaining(entered);
  if (stop) {
    // The instruction has more to do and ends its block: let the counter run out at the next block's head.
    ctx_->end_step -= static_cast<u64>(entered);
    ctx_->set_remaining(0);
  }
  return resume_in(b, site.after == AfterSite::resume_only ? site.special_resume : site.resume);
}

Gva Engine::pc_behind(const MemSite& site, const Block& b) {
  switch (site.after) {
    case AfterSite::next_insn:
      return Gva(ctx_->current_page + cache_.store().page_offset(b, site.insn + 1u));
    case AfterSite::direct_target:
      return Gva(ctx_->current_page + static_cast<u64>(i64{site.target}));
    case AfterSite::branch_target:
      return Gva(ctx_->branch_target);
    case AfterSite::resume_only:
      break;
  }
  DEJA_UNREACHABLE("the instruction at {:#x} has more to do", ctx_->state.rip);
}

u64 Engine::leave_behind(const MemSite& site, const Block& b) {
  CpuState& s = ctx_->state;
  const Gva next = pc_behind(site, b);
  const bool called = site.after != AfterSite::next_insn;
  if (called && b.mode.has(BlockMode::kCode64) && !is_canonical(s, next.value)) {
    // It is the CALL that faults, as in jump(); the return address stays in memory.
    set_rip(b, site.insn);
    s.gpr[RSP] += 8;
    raise(fault_gp());
    return dispatch(DispatchCause::memory);
  }
  ctx_->set_remaining(ctx_->remaining() - 1);
  s.rip = site.after == AfterSite::branch_target ? next.value : rip_of(next);
  return dispatch(DispatchCause::memory);
}

}  // namespace deja
