// What to execute next: stops, pending events, debug traps, and the block at RIP.
#include <algorithm>
#include <utility>

#include "execute/engine.h"

namespace deja {
namespace {

constexpr i64 kLongestBlock = 64;  // instructions

void set_gs_base(const void* base) { asm volatile("wrgsbase %0" ::"r"(base)); }

// Whether the code that a dispatch leads to may be asked of the jump cache, whose blocks check the counter
// themselves. A jump has looked there already, and a block that was too long or had groups is not wanted
// again.
bool may_ask_jump_cache(DispatchCause cause) {
  return cause == DispatchCause::start || cause == DispatchCause::link || cause == DispatchCause::helper ||
         cause == DispatchCause::memory || cause == DispatchCause::far_link;
}

GuestFault debug_exception(u64 dr6) {
  GuestFault db{kDB};
  db.dr6 = dr6;
  return db;
}

}  // namespace

void Engine::use_tables(const AddressSpace& space) {
  if (space.tables == space_.in_gs) return;
  space_.in_gs = ctx_->quick.tables = space.tables;
  set_gs_base(space_.in_gs);
}

u64 Engine::dispatch(DispatchCause cause) {
  CpuState& s = ctx_->state;
  ++counters_.dispatches[static_cast<unsigned>(cause)];
  step_trap_.finish(s);
  // A debug exception ends HLT, also that of the MOV SS before it (SDM vol. 2A "HLT").
  if (s.pending_dbg && s.activity == Activity::halted) s.activity = Activity::running;
  while (true) {
    if (const std::optional<RunStop> why = reason_to_leave()) return run_.reason = *why, 0;
    run_.dropped = false;
    update_clock();
    if (deliver_pending_event()) continue;
    Fetch fetch;
    if (fault_on_fetch(&fetch)) continue;
    if (stops_at_breakpoint(&fetch)) return run_.reason = RunStop::observed, 0;
    if (hit_code_breakpoint(&fetch)) continue;
    if (chaos_.on() && fetch.limit == 0) {
      fetch.limit = chaos_.draw_limit();
      if (chaos_.one_in(4096)) disturb();
    }
    if (const u64 code = enter_block(fetch, cause)) return code;
  }
}

std::optional<RunStop> Engine::reason_to_leave() {
  const Activity& activity = ctx_->state.activity;
  if ((run_.stop_requested || ctx_->remaining() <= 0) && !goes_on()) {
    if (run_.stop_requested) return run_.reason == RunStop::pause ? RunStop::pause : RunStop::event;
    return activity == Activity::running ? RunStop::budget : RunStop::inactive;
  }
  if (activity != Activity::running) return RunStop::inactive;
  return std::nullopt;
}

bool Engine::deliver_pending_event() {
  CpuState& s = ctx_->state;
  if (s.pending_dbg && !s.mov_ss_shadow) {
    raise(debug_exception(std::exchange(s.pending_dbg, 0)));
    return true;
  }
  if (s.nmi_pending && !s.nmi_blocked && !s.mov_ss_shadow) {
    s.nmi_pending = false;
    ++counters_.interrupts;
    raise({kNMI}, EventKind::nmi);
    return true;
  }
  if (!(s.rflags & flag::IF) || s.sti_shadow || s.mov_ss_shadow || !gate_.interrupt_pending(s.index))
    return false;
  const int vector = gate_.acknowledge_interrupt(s.index);
  ctx_->quick.interrupt_pending = gate_.interrupt_pending(s.index);
  if (vector < 0) return false;
  ++counters_.interrupts;
  raise({static_cast<u8>(vector)}, EventKind::external_interrupt);
  return true;
}

bool Engine::fault_on_fetch(Fetch* fetch) {
  const CpuState& s = ctx_->state;
  fetch->pc = linear_pc();
  if (s.mode64()) {
    if (is_canonical(s, s.rip)) return false;
    raise(fault_gp());
    return true;
  }
  const u32 last = s.seg[CS].limit;
  if (s.rip > last) {
    raise(fault_gp());
    return true;
  }
  if (last == 0xffffffff) return false;
  // Close to the segment's end every instruction is checked. Elsewhere a block, which stays in its page,
  // cannot get there, and without kFlatCode none leads to another but through here.
  const u64 room = u64{last} - s.rip + 1;
  if (room < kPageSize + kMaxInsnBytes) fetch->limit = 1;
  if (room >= kMaxInsnBytes || instruction_fits(fetch->pc, static_cast<unsigned>(room))) return false;
  raise(fault_gp());
  return true;
}

// A debugger's.
bool Engine::stops_at_breakpoint(Fetch* fetch) {
  fetch->observed = observation_.breaks_in_page_of(fetch->pc);
  if (!fetch->observed || !observation_.is_cut(fetch->pc)) return false;
  if (observation_.hit_breakpoint(fetch->pc, ctx_->state, clock_.steps)) return true;
  fetch->limit = 1;  // so that no block leads here but through this check
  return false;
}

// The guest's own, in its debug registers. All that has an effect on one instruction alone limits the block
// to it.
bool Engine::hit_code_breakpoint(Fetch* fetch) {
  const CpuState& s = ctx_->state;
  if (s.sti_shadow || s.mov_ss_shadow || (s.rflags & (flag::TF | flag::RF))) fetch->limit = 1;
  if (!(s.dr7 & 0xff)) return false;
  u64 hit = 0;
  for (unsigned i = 0; i < 4; ++i) {
    if (!(s.dr7 >> (2 * i) & 3) || (s.dr7 >> (16 + 4 * i) & 3)) continue;
    fetch->limit = 1;
    if (s.dr[i] == fetch->pc.value) hit |= u64{1} << i;
  }
  // After MOV SS it is suppressed as if RF were set (SDM vol. 3B 17.3.1.1).
  if (!hit || (s.rflags & flag::RF) || s.mov_ss_shadow) return false;
  raise(debug_exception(hit));
  return true;
}

u64 Engine::enter_block(const Fetch& fetch, DispatchCause cause) {
  CpuState& s = ctx_->state;
  const BlockMode plain = mode_of(s);
  ctx_->quick.system_mode = system_mode(s);
  ctx_->r9 = fetch.pc.value;
  ctx_->vectors_wanted = plain.has(BlockMode::kUser);
  if (fetch.limit == 0 && !fetch.observed && may_ask_jump_cache(cause)) {
    // If what is found is a block that was removed, its way leads back here, as a miss.
    AddressSpace& sp = space();
    ViewTables& t = sp.tables->view[static_cast<unsigned>(plain.view())];
    if (const u64 code = t.jump_mode == plain.bits ? find_jump(t, fetch.pc) : 0) return use_tables(sp), code;
  }
  const BlockId id = block_for(fetch, cause, plain);
  if (id == kNone) return 0;
  const Block& b = cache_.block(id);
  if (fetch.limit || b.count == 1) {
    s.sti_shadow = s.mov_ss_shadow = false;
    step_trap_.begin(s);
    s.rflags &= ~flag::RF;
    if (step_trap_.due() && StepTrap::wants_branches(s)) note_step(fetch.pc, b);
  }
  AddressSpace& sp = space();
  use_tables(sp);
  const u64 far = cache_.exec_base() + b.far_entry;
  // What is linked inside a page has no need of the jump cache.
  if (b.mode.limit() == 0 && !fetch.observed && cause != DispatchCause::group && cause != DispatchCause::link)
    spaces_.install_jump(sp, b.mode.view(), fetch.pc, far, b.mode.bits);
  else
    spaces_.set_jump_mode(sp, b.mode.view(), plain.bits);
  return far;
}

BlockId Engine::block_for(const Fetch& fetch, DispatchCause cause, BlockMode plain) {
  const auto find = [&](unsigned limit) {
    return find_block(fetch.pc, BlockMode{plain.bits | (fetch.observed ? BlockMode::kObserved : 0u) |
                                          (cause == DispatchCause::group ? BlockMode::kPlain : 0u) |
                                          limit << BlockMode::kLimitShift});
  };
  const unsigned left = static_cast<unsigned>(std::min<i64>(ctx_->remaining(), kLongestBlock));
  // Where a block has just been found too long, the one that there is here is.
  const bool too_long = cause == DispatchCause::expired && fetch.limit == 0 && left < kLongestBlock;
  BlockId id = find(too_long ? left : fetch.limit);
  if (id != kNone && cache_.block(id).count > ctx_->remaining()) id = find(left);
  // The walk for this fetch was watched: stop after the instruction that it was for.
  if (id != kNone && run_.stop_requested && cache_.block(id).count > 1) id = find(1);
  return id;
}

bool Engine::instruction_fits(Gva pc, unsigned room) {
  const CpuState& s = ctx_->state;
  u8 bytes[kMaxInsnBytes];
  unsigned got = 0;
  try {
    got = fetch(pc, bytes, room);
  } catch (const GuestFault&) {
    return true;  // has precedence, and comes when it is fetched to be run
  }
  Insn insn;
  return got < room ||
         decode(bytes, got, mode_of(s).code_size(), s.seg[SS].big(), &insn) != DecodeStatus::truncated;
}

void Engine::note_step(Gva pc, const Block& b) {
  u8 bytes[kMaxInsnBytes];
  Insn insn;
  const unsigned got = fetch(pc, bytes, std::min<unsigned>(b.bytes, sizeof bytes));
  if (decode(bytes, got, b.mode.code_size(), b.mode.has(BlockMode::kStackBig), &insn) == DecodeStatus::ok)
    step_trap_.only_branches(ctx_->state, insn);
}

}  // namespace deja
