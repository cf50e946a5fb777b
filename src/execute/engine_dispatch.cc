// What to execute next: stops, pending events, debug traps, and the block at RIP.
#include <algorithm>

#include "execute/engine.h"

namespace deja {
namespace {

constexpr i64 kLongestBlock = 64;  // instructions
constexpr u64 kDr6Bs = 1 << 14;
constexpr u64 kDebugCtlBtf = 1 << 1;

void set_gs_base(const void* base) { asm volatile("wrgsbase %0" ::"r"(base)); }

// A taken branch even where it leads to the instruction that follows it.
bool always_branches(ZydisMnemonic m) {
  return m == ZYDIS_MNEMONIC_JMP || m == ZYDIS_MNEMONIC_CALL || m == ZYDIS_MNEMONIC_RET ||
         m == ZYDIS_MNEMONIC_IRET || m == ZYDIS_MNEMONIC_IRETD || m == ZYDIS_MNEMONIC_IRETQ;
}

}  // namespace

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
    // The trap after MOV SS is lost, and does not wait as one of a data breakpoint does (SDM vol. 3A 6.8.3).
    if (!s.mov_ss_shadow && step_over_[0] != s.rip && step_over_[1] != s.rip) s.pending_dbg |= kDr6Bs;
  }
  // A debug exception ends HLT, also that of the MOV SS before it (SDM vol. 2A "HLT").
  if (s.pending_dbg && s.activity == Activity::halted) s.activity = Activity::running;
  const auto leave = [&](RunStop why) {
    stop_reason_ = why;
    return u64{0};
  };
  while (true) {
    if ((stop_requested_ || ctx_->remaining() <= 0) && !goes_on()) {
      if (stop_requested_) return leave(stop_reason_ == RunStop::pause ? RunStop::pause : RunStop::event);
      return leave(s.activity == Activity::running ? RunStop::budget : RunStop::inactive);
    }
    if (s.activity != Activity::running) return leave(RunStop::inactive);
    dropped_ = false;
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
    // The block that there is here has just been found too long.
    if (cause == DispatchCause::expired && limit == 0 && ctx_->remaining() < kLongestBlock)
      mode = limited(static_cast<unsigned>(ctx_->remaining()));
    if (limit == 0 &&
        (cause == DispatchCause::start || cause == DispatchCause::link || cause == DispatchCause::helper ||
         cause == DispatchCause::memory || cause == DispatchCause::far_link) &&
        !observed) {
      // Where the jump cache has the answer, the block's own head checks the counter. If that is a block that
      // was removed, its way leads back here, as a miss.
      AddressSpace& sp = space();
      ViewTables& t = sp.tables->view[static_cast<unsigned>(mode.view())];
      if (const u64 code = t.jump_mode == plain ? find_jump(t, pc) : 0) {
        use_tables(sp);
        ctx_->r9 = pc;
        ctx_->vectors_wanted = mode.has(BlockMode::kUser);
        return code;
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
    // What is linked inside a page has no need of the jump cache.
    if (b.mode.limit() == 0 && !observed && cause != DispatchCause::group && cause != DispatchCause::link)
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

}  // namespace deja
