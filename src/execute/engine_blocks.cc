// Finds blocks, has them translated, links them, and drops those whose code was written to.
#include <algorithm>
#include <cstring>
#include <sstream>
#include <string>

#include "base/check.h"
#include "base/log.h"
#include "execute/engine.h"
#include "execute/page_walk.h"
#include "execute/stopwatch.h"
#include "translate/listing.h"

namespace deja {

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
  const Gva next = this->linear(linear).after(in_page);
  if (mode.has(BlockMode::kCode64) && sign_extend(next.value, 48) != next.value) {
    raise(fault_gp());
    return kNone;
  }
  Gpa second;
  if (!fetch_page(next, &second)) return kNone;
  // What is cached of one page may give way to the other.
  if (!spaces_.find_exec(sp, view, linear, &page)) return kNone;
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
        if (options_.list_block == pc) {
          std::istringstream listing(list_block(cache_.store(), cache_.block(id), *translator_,
                                                cache_.write_base(), cache_.exec_base(), pc));
          for (std::string line; std::getline(listing, line);) log_info("translate", "{}", line);
        }
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
        const u32 first = evicted.region * kFarLinksPerRegion;
        spaces_.drop_jumps_into(evicted.begin, evicted.end, first, first + kFarLinksPerRegion);
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
  ctx_->state.rip = rip_of(pc);
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

u64 Engine::far_link(u32 site, u64 pc) {
  ++counters_.links;
  // By value: translating moves the tables.
  const FarLink l = cache_.store().far_links[site];
  const Block& from = cache_.block(l.block);
  const u64 frame = from.pc.frame();
  const BlockMode mode{from.mode.bits & ~BlockMode::kPlain};
  const Gva page(ctx_->current_page);
  const u64 evictions = counters_.cache_evictions, flushes = counters_.cache_flushes;
  const u64 code = jump(pc, l.branch, DispatchCause::far_link);
  // As with links inside a page. What any jump to `pc` finds is in the jump cache.
  if (!code || counters_.cache_evictions != evictions || counters_.cache_flushes != flushes) return code;
  ViewTables& t = space().tables->view[static_cast<unsigned>(mode.view())];
  if (t.jump_mode == mode.bits && find_jump(t, pc) == code)
    spaces_.install_far_link(space(), mode.view(), far_link_slot(site), page, frame, pc, code);
  return code;
}

u64 Engine::jump(u64 pc, u32 branch_site, DispatchCause cause) {
  if (branch_site != kNone && sign_extend(pc, 48) != pc) {
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
  dropped_ = true;
}

}  // namespace deja
