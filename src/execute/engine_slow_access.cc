// Memory accesses of translated code that its inline lookup leaves to C++: misses, faults, operands in two
// pages, MMIO, writes to tracked pages. Where there is no host address for an operand, its instruction runs
// on a bounce buffer.
#include <algorithm>
#include <cstring>

#include "execute/engine.h"
#include "execute/fpu_state.h"
#include "execute/segments.h"

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

}  // namespace

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
  const Linear operand = this->linear(linear);
  const unsigned in_page = operand.in_page();
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
    const Gva second = operand.after(in_page);
    Gpa page2;
    if (!find_page(second, &page2)) return fail(fault_pf(second.value, error));
    parts_[1] = {page2, site.size - in_page};
    part_count_ = 2;
  }
  if (site.checked && b.mode.has(BlockMode::kSlowData)) note_data_access(operand, site.size, site.write);
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
    const bool called = site.after != AfterSite::next_insn;
    if (called && b.mode.has(BlockMode::kCode64) && sign_extend(next, 48) != next) {
      // It is the CALL that faults, as in jump(); the return address stays in memory.
      set_rip(b, insn);
      ctx_->state.gpr[RSP] += 8;
      raise(fault_gp());
      return dispatch(DispatchCause::memory);
    }
    ctx_->set_remaining(ctx_->remaining() - 1);
    ctx_->state.rip = site.after == AfterSite::branch_target ? next : rip_of(next);
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

}  // namespace deja
