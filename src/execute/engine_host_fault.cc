// Exceptions that the host raises in translated code: probes of the TLB that missed, and the guest's own.
#include "base/check.h"
#include "execute/engine.h"

namespace deja {
namespace {

// How often the probe of a memory site may fault, at a microsecond or two, before it is made to branch.
constexpr unsigned kFaultsPerProbe = 2;

}  // namespace

u64 Engine::host_fault(u32, u64 r9) {
  const u32 site = cache_.site_before(ctx_->host_fault_pc);
  MemSite* const access = site == kNone ? nullptr : &cache_.store().mem_sites[site];
  if (access && access->base != MemSite::kNoBase) r9 = ctx_->state.gpr[access->base];
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
  bounce_.forget_deferred();  // the instruction's own exception came first
  const bool own = access && access->block == id && access->insn == insn;
  raise(fault_of_host(b, own ? access : nullptr, Gva(r9)));
  return dispatch(DispatchCause::host_fault);
}

GuestFault Engine::fault_of_host(const Block& b, const MemSite* access, Gva address) const {
  switch (ctx_->host_fault_trap) {
    case kDE:
    case kMF:
      return {static_cast<u8>(ctx_->host_fault_trap)};
    case kXM:
      return {b.mode.has(BlockMode::kXmUd) ? u8{kUD} : u8{kXM}};
    case kGP: {
      // A misaligned operand; or one outside the canonical addresses, some of which pass the lookup
      // (page_probe.cc).
      const bool canonical = !b.mode.has(BlockMode::kCode64) || is_canonical(ctx_->state, address.value);
      if (canonical || !access || access->segment != SS) return fault_gp();
      const bool misaligned =
          access->align && (address.value + static_cast<u64>(i64{access->before})) % access->align;
      return misaligned ? fault_gp() : fault_ss();
    }
    default:
      DEJA_UNREACHABLE("host exception {} at {:#x}, guest rip {:#x}", ctx_->host_fault_trap,
                       ctx_->host_fault_pc, ctx_->state.rip);
  }
}

}  // namespace deja
