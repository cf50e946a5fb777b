// Finds blocks, has them translated, links them, and drops those whose code was written to.
#include <algorithm>
#include <cstring>
#include <sstream>
#include <string>

#include "base/check.h"
#include "base/log.h"
#include "execute/engine.h"
#include "execute/host/stopwatch.h"
#include "guest/page_walk.h"
#include "translate/listing.h"

namespace deja {

bool Engine::fetch_page(Gva linear, View view, Gpa* page) {
  AddressSpace& sp = space();
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
}

BlockId Engine::find_block(Gva pc, BlockMode mode) {
  Gpa page;
  if (!fetch_page(pc, mode.view(), &page)) return kNone;
  const Gpa at = page + pc.offset();
  const BlockId found = cache_.find(at, mode);
  if (found != kNone) return cache_.block(found).crosses() ? find_crossing_block(pc, at, mode, found) : found;
  bool need_next = false;
  const std::span<const u8> bytes{ram_.host(at), kPageSize - pc.offset()};
  const BlockId id = translate_at(pc, at, mode, bytes, kNoPage, &need_next);
  DEJA_CHECK(id != kNone || need_next);
  return id != kNone ? id : find_crossing_block(pc, at, mode, kNone);
}

// The first instruction reaches into the next page. `found`: the block of such a one, perhaps with another
// page behind it.
BlockId Engine::find_crossing_block(Gva pc, Gpa at, BlockMode mode, BlockId found) {
  const unsigned in_page = static_cast<unsigned>(kPageSize - pc.offset());
  const Gva next = linear(pc).after(in_page);
  if (mode.has(BlockMode::kCode64) && !is_canonical(ctx_->state, next.value)) {
    raise(fault_gp());
    return kNone;
  }
  Gpa second, first;
  if (!fetch_page(next, mode.view(), &second)) return kNone;
  // What is cached of one page may give way to the other.
  if (!spaces_.find_exec(space(), mode.view(), pc, &first)) return kNone;
  if (found != kNone) {
    if (cache_.block(found).second_page == second) return found;
    cache_.invalidate(at, 1);
  }
  u8 joined[2 * kMaxInsnBytes];
  const unsigned head = std::min<unsigned>(in_page, kMaxInsnBytes);
  std::memcpy(joined, ram_.host(at), head);
  std::memcpy(joined + head, ram_.host(second), kMaxInsnBytes);
  bool need_next = false;
  const BlockId id = translate_at(pc, at, mode, {joined, head + kMaxInsnBytes}, second, &need_next);
  DEJA_CHECK(id != kNone, "no block for the instruction at {:#x}, which crosses the end of its page",
             pc.value);
  return id;
}

BlockId Engine::translate_at(Gva pc, Gpa at, BlockMode mode, std::span<const u8> bytes, Gpa second_page,
                             bool* need_next) {
  const Stopwatch watch(&counters_.translation_ns);
  TranslateInput input{at, mode, bytes.data(), static_cast<unsigned>(bytes.size()), second_page, {}};
  // The breakpoints of all pages: a physical page may be mapped at several linear ones.
  if (mode.has(BlockMode::kObserved)) input.cuts = observation_.cuts();
  for (int attempt = 0; attempt < 2; ++attempt) {
    BlockId id = kNone;
    switch (translator_->translate(input, cache_.space(), &id)) {
      case TranslateStatus::ok:
        note_new_block(id, pc, second_page);
        return id;
      case TranslateStatus::need_next_page:
        *need_next = true;
        return kNone;
      case TranslateStatus::cache_full:
        evict_code();
        break;
    }
  }
  DEJA_UNREACHABLE("code cache of {} bytes is too small for one block", cache_.bytes());
}

void Engine::note_new_block(BlockId id, Gva pc, Gpa second_page) {
  const Block& block = cache_.block(id);
  cache_.take(block);
  cache_.add(id);
  if (options_.list_block == pc.value) {
    std::istringstream listing(
        list_block(cache_.store(), block, *translator_, cache_.write_base(), cache_.exec_base(), pc.value));
    for (std::string line; std::getline(listing, line);) log_info("translate", "{}", line);
  }
  ++counters_.blocks;
  counters_.translated_insns += block.count;
  for (const Gpa p : {block.pc.page(), second_page}) {
    if (p == kNoPage || (ram_.flags(p.frame()) & GuestRam::kCode)) continue;
    if (ram_.flags(p.frame()) & GuestRam::kWriteCached) spaces_.drop_writable(p.frame());
    ram_.flags(p.frame()) |= GuestRam::kCode;
  }
}

void Engine::evict_code() {
  const CodeCache::Evicted evicted = cache_.next_region();
  if (evicted.blocks) ++counters_.cache_evictions;
  counters_.evicted_blocks += evicted.blocks;
  const u32 first = evicted.region * kFarLinksPerRegion;
  spaces_.drop_jumps_into(evicted.begin, evicted.end, first, first + kFarLinksPerRegion);
}

u64 Engine::link(u32 site, u64) {
  ++counters_.links;
  // By value: translating moves the tables.
  const LinkSite l = cache_.store().link_sites[site];
  const u64 evictions = counters_.cache_evictions, flushes = counters_.cache_flushes;
  const u32 plain = l.plain ? BlockMode::kPlain : 0u;
  const BlockMode mode{(cache_.block(l.block).mode.bits & ~BlockMode::kPlain) | plain};
  const Gpa expected(cache_.block(l.block).pc.page().value + l.target);
  ctx_->state.rip = rip_of(Gva(ctx_->current_page + l.target));
  const u64 code = dispatch(l.plain ? DispatchCause::group : DispatchCause::link);
  // Link when dispatch chose just the plain block at the target, and nothing moved meanwhile.
  if (!code || counters_.cache_evictions != evictions || counters_.cache_flushes != flushes) return code;
  const Block& from = cache_.block(l.block);
  if (!from.valid || from.crosses()) return code;
  const BlockId id = cache_.find(expected, mode);
  if (id == kNone || cache_.block(id).crosses()) return code;
  if (code != cache_.exec_base() + cache_.block(id).far_entry) return code;
  if (id != l.block || !from.small_loop) {
    cache_.set_link(site, id);
  } else if (++cache_.store().link_sites[site].turns >= options_.translate.unroll_after) {
    // The way into a removed block, which is ours here, leads to the dispatcher.
    translator_->unroll(from.pc, from.mode);
    cache_.remove(id);
  }
  return code;
}

u64 Engine::far_link(u32 site, u64 pc) {
  ++counters_.links;
  // By value: translating moves the tables.
  const FarLink l = cache_.store().far_links[site];
  const Block& from = cache_.block(l.block);
  const u64 frame = from.pc.frame();
  const BlockMode mode{from.mode.bits & ~BlockMode::kPlain};
  const Gva page(ctx_->current_page);
  const u64 evictions = counters_.cache_evictions, flushes = counters_.cache_flushes;
  const u64 code = jump(Gva(pc), l.branch, DispatchCause::far_link);
  // As with links inside a page. What any jump to `pc` finds is in the jump cache.
  if (!code || counters_.cache_evictions != evictions || counters_.cache_flushes != flushes) return code;
  ViewTables& t = space().tables->view[static_cast<unsigned>(mode.view())];
  if (t.jump_mode == mode.bits && find_jump(t, Gva(pc)) == code)
    spaces_.install_far_link(space(), mode.view(), far_link_slot(site), page, frame, Gva(pc), code);
  return code;
}

u64 Engine::jump(Gva pc, u32 branch_site, DispatchCause cause) {
  if (branch_site != kNone && !is_canonical(ctx_->state, pc.value)) {
    const BranchSite& branch = cache_.store().branch_sites[branch_site];
    const Block& b = cache_.block(branch.block);
    ctx_->set_remaining(ctx_->remaining() - branch.rest);
    sync_to(b, branch.insn);
    set_rip(b, branch.insn);
    ctx_->state.gpr[RSP] -= static_cast<u64>(i64{branch.popped});
    raise(fault_gp());
  } else {
    ctx_->state.rip = rip_of(pc);
  }
  return dispatch(cause);
}

void Engine::invalidate_code(Gpa at, u64 size) {
  if (cache_.invalidate(at, size) == 0) return;
  ++counters_.code_invalidations;
  run_.dropped = true;
}

}  // namespace deja
