// Instructions that are done in C++: which function does each, and what surrounds its call.
#include "base/log.h"
#include "execute/engine.h"
#include "execute/flag_ops.h"
#include "execute/fpu_helpers.h"
#include "execute/near_ops.h"
#include "translate/classify.h"

namespace deja {
namespace {

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
  const unsigned prepaid = cache_.block(block_id).prepaid(index);
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
  // As behind instructions that are carried over: 16-bit code does not wrap at 64 KiB, it meets the limit of
  // CS.
  if (h.decoded.code_size != CodeSize::bits64) vcpu_->next_rip &= 0xffffffff;
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
    // Back into the block, with as many steps off the counter as before.
    ctx_->set_remaining(ctx_->remaining() - prepaid);
    return resume_in(cache_.block(block_id), resume);
  }
  ctx_->set_remaining(ctx_->remaining() - 1);
  s.rip = vcpu_->next_rip;
  return dispatch(DispatchCause::helper);
}

}  // namespace deja
