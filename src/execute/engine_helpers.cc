// Instructions that are done in C++: what surrounds the call of their helper.
#include <utility>

#include "execute/engine.h"

namespace deja {

u64 Engine::run_helper(u32 site, u64) {
  HelperSite& h = cache_.store().helper_sites[site];
  ++counters_.helpers[h.decoded.mnemonic];
  const Block& block = cache_.block(h.block);
  sync_to(block, h.insn);
  set_rip(block, h.insn);
  const unsigned prepaid = block.prepaid(h.insn);
  CpuState& s = ctx_->state;
  if (h.raise != kNoVector) {
    GuestFault f{h.raise};
    f.has_error = h.raise == kGP;
    raise(f);
    return dispatch(DispatchCause::helper);
  }
  if (!h.helper) h.helper = find_helper(h.decoded);
  vcpu_->next_rip = s.rip + h.decoded.length;
  // As behind instructions that are carried over: 16-bit code does not wrap at 64 KiB, it meets the limit of
  // CS.
  if (h.decoded.code_size != CodeSize::bits64) vcpu_->next_rip &= 0xffffffff;
  try {
    h.helper(*vcpu_, h.decoded);
  } catch (const GuestFault& fault) {
    raise(fault);
    return dispatch(DispatchCause::helper);
  }
  if (h.helper.traps_by_new_flags) step_trap_.take_new_flags(s);
  if (std::exchange(vcpu_->tsc_moved, false)) run_.stop_requested = true;
  if (s.pause_run >= kPausesPerQuantum && vcpu_->vcpu_count > 1) {
    run_.stop_requested = true;
    run_.reason = RunStop::pause;
  }
  if (!h.ends_block && !run_.stop_requested && !run_.dropped && !s.pending_dbg) {
    // Back into the block, with as many steps off the counter as before.
    ctx_->set_remaining(ctx_->remaining() - prepaid);
    return resume_in(cache_.block(h.block), h.resume);
  }
  ctx_->set_remaining(ctx_->remaining() - 1);
  s.rip = vcpu_->next_rip;
  return dispatch(DispatchCause::helper);
}

}  // namespace deja
