#include "translate/translator.h"

#include <cstddef>

#include "base/check.h"
#include "translate/flag_fixes.h"
#include "translate/unroll.h"

namespace deja {

static_assert(offsetof(ExecContext, state) == 0 && offsetof(CpuState, gpr) == 0);

TranslateStatus Translator::translate(const TranslateInput& input, const CodeSpace& space, BlockId* out) {
  if (space.hot_room < kMaxBlockCode || space.cold_room < kMaxBlockCode ||
      !store_.bytes.has_room(space.region, kPageSize))  // long NOPs take more than their translation
    return TranslateStatus::cache_full;
  if (form_block(input, options_, &insns_) == FormStatus::need_next_page)
    return TranslateStatus::need_next_page;
  mode_ = input.mode;
  bool small_loop = options_.unroll && !mode_.limit() && !mode_.has(BlockMode::kPlain) &&
                    is_small_loop(insns_, options_.max_insns);
  const bool unrolled = small_loop && unrolled_.contains(key(input.pc, mode_));
  if (unrolled) {
    unroll_loop(&insns_, options_.max_insns);
    small_loop = false;
  }
  if (options_.soft_flags) plan_flags(insns_);
  if (options_.elide && mode_.code_size() == CodeSize::bits64 && !mode_.limit() &&
      !mode_.has(BlockMode::kPlain) && !access_is_checked(DS) && !ungrouped_.contains(key(input.pc, mode_)))
    plan_groups(insns_);

  region_ = space.region;
  id_ = store_.blocks.next(region_);
  block_ = Block{};
  block_.pc = input.pc;
  block_.mode = input.mode;
  block_.second_page = input.second_page;
  block_.count = static_cast<u16>(insns_.size());
  block_.small_loop = small_loop;
  if (!unrolled) note_parts();
  block_.bytes = static_cast<u16>(insns_.back().end - insns_.front().start);
  block_.first_place = store_.places.next(region_);
  block_.first_byte = store_.bytes.next(region_);
  auto& bytes = store_.bytes.in(region_);
  bytes.insert(bytes.end(), input.bytes, input.bytes + block_.bytes);
  cold_.clear();
  cold_marks_.clear();

  cache_write_ = space.write;
  // The near entry stands on a 16-byte boundary.
  constexpr unsigned kBefore = kExpiredBytes + kFarEntryBytes;
  const u32 entry = (space.hot + kBefore + 15) & ~15u;
  const u64 delta = targets_.cache_exec - reinterpret_cast<u64>(cache_write_);
  e_ = Emitter(cache_write_ + entry - kBefore, delta);
  emit_entries();
  r10_group_ = -1;
  auto& places = store_.places.in(region_);
  for (unsigned i = 0; i < insns_.size(); ++i) {
    places.push_back({insns_[i].start, static_cast<u16>(offset_of(e_.p) - block_.far_entry)});
    enter_insn(i);
    emit_insn(insns_[i]);
  }
  const BlockInsn& last = insns_.back();
  places.push_back({last.end, static_cast<u16>(offset_of(e_.p) - block_.far_entry)});
  if (falls_through(last) && last.way != Way::jcc) exit_to(last.end);
  if ((last.way == Way::push || last.way == Way::pop) && last.insn.has_mem) exit_to(last.end);
  block_.end = offset_of(e_.p);
  DEJA_CHECK(block_.end - space.hot <= kMaxBlockCode, "block of {} bytes of host code",
             block_.end - space.hot);

  block_.cold_begin = space.cold;
  e_ = Emitter(cache_write_ + space.cold, delta);
  for (std::size_t i = 0; i < cold_.size(); ++i) {
    const Cold c = cold_[i];  // more may follow
    cold_marks_.push_back({offset_of(e_.p), c.insn});
    enter_insn(c.insn);
    emit_cold(c);
  }
  block_.cold_end = offset_of(e_.p);
  DEJA_CHECK(block_.cold_end - space.cold <= kMaxBlockCode, "{} bytes of cold code",
             block_.cold_end - space.cold);
  *out = store_.blocks.add(region_, block_);
  return TranslateStatus::ok;
}

void Translator::emit_cold(const Cold& c) {
  switch (c.kind) {
    case Cold::Kind::link_stub:
      store_.link_sites[c.site].stub = offset_of(e_.p);
      land32(c.patch);
      e_.mov_imm32(HRCX, c.site);
      return e_.jmp(targets_.link);
    case Cold::Kind::side_exit:
      land32(c.patch);
      // The head of an unrolled loop has taken the steps of the turns that are not made.
      if (rest()) e_.lea(HR11, HR11, -1, 1, static_cast<i32>(rest() << kCounterShift));
      return exit_to(c.target, c.site);
    case Cold::Kind::miss:
      land32(c.patch);
      return emit_slow_call(c.site, store_.mem_sites[c.site]);
  }
  DEJA_UNREACHABLE();
}

void Translator::emit_entries() {
  e_.mov_imm32(HRCX, id_);
  e_.jmp(targets_.expired);
  block_.far_entry = offset_of(e_.p);
  e_.b(0x4d, 0x8d, 0x89), e_.d(-static_cast<u32>(block_.page_offset()));  // lea r9, [r9 - offset]
  e_.mov_store(ctx(offsetof(ExecContext, current_page)), HR9);
  block_.near_entry = offset_of(e_.p);
  // The probe is for the whole block, so that no part of it can overdraw the counter.
  const unsigned after = block_.in_parts() ? HR10 : HR11;
  e_.b(0x4d, 0x8d, after == HR11 ? 0x9b : 0x93);  // lea r11 or r10, [r11 - count * 64]
  e_.d(-(u32{block_.count} << kCounterShift));
  e_.sarx(HR10, after, HR11);
  e_.b(0x45, 0x0f, 0xb6), e_.b(0x8a),
      e_.d(static_cast<u32>(targets_.probe_base));  // movzx r9d, byte [r10 + probe]
  if (block_.in_parts()) take_steps(block_.prepaid(0));
}

// A block has at most 64 steps and is entered with none left at the least: what would be left, divided by 64,
// is -1 when it does not suffice.
void Translator::emit_branching_check(u8* near_entry, bool in_parts) {
  Emitter e(near_entry + kCheckOffset, 0);
  e.sarx(HRCX, in_parts ? HR10 : HR11, HR11);
  e.lea(HRCX, HRCX, -1, 1, 1);
  u8* const expired = e.jrcxz();
  *expired = static_cast<u8>(near_entry - kFarEntryBytes - kExpiredBytes - (expired + 1));
  e.b(0x66, 0x90);
  DEJA_CHECK(e.p == near_entry + kProbeOffset + kProbeBytes);
}

void Translator::take_steps(unsigned steps) {
  e_.lea(HR11, HR11, -1, 1, -static_cast<i32>(steps << kCounterShift));
}

void Translator::note_parts() {
  unsigned n = 0;
  for (unsigned i = 0; i + 1 < insns_.size(); ++i)
    if (insns_[i].way == Way::jcc) block_.parts[n++] = static_cast<u8>(i + 1);
}

void Translator::enter_insn(unsigned index) {
  current_insn_ = static_cast<u16>(index);
  insn_ = &insns_[index];
  insn_end_ = insn_->end;
  access_ = 0;
}

void Translator::emit_insn(const BlockInsn& b) {
  const Insn& i = b.insn;
  switch (b.way) {
    case Way::carry:
      if (uses_vectors(i)) need_vectors();
      return emit_carried(i);
    case Way::nothing:
      return;
    case Way::lea:
      return emit_lea(i);
    case Way::moffs:
      return emit_moffs(i);
    case Way::push:
      return emit_push(i);
    case Way::pop:
      return emit_pop(i);
    case Way::leave:
      return emit_leave(i);
    case Way::jump:
      return emit_jump(i);
    case Way::jcc:
      return emit_jcc(i);
    case Way::call:
      return emit_call(i);
    case Way::ret:
      return emit_ret(i);
    case Way::loop:
      return emit_loop(i);
    case Way::helper:
      return emit_helper(i, true, b.quick, b.raise);
    case Way::helper_inline:
      return emit_helper(i, false, b.quick);
  }
  DEJA_UNREACHABLE();
}

void Translator::need_vectors() {
  // Code for CPL 3 is never entered without them.
  if (mode_.has(BlockMode::kUser) || block_.vectors) return;
  block_.vectors = true;
  e_.movzx8_load(HRCX, ctx(offsetof(ExecContext, vectors_away)));
  u8* const there = e_.jrcxz();
  e_.lea_rip(HRCX, e_.here() + 7 + 5);
  e_.jmp(targets_.load_vectors);
  e_.land(there);
}

void Translator::emit_helper(const Insn& insn, bool ends, QuickOp quick, u8 raise) {
  const u32 site = store_.helper_sites.next(region_);
  HelperSite h{};
  h.block = id_;
  h.insn = current_insn_;
  h.ends_block = ends;
  h.raise = raise;
  h.decoded = insn;
  h.quick = quick;
  lose_r10();
  e_.mov_imm32(HRCX, site);
  e_.jmp(h.quick == QuickOp::none ? targets_.helper : targets_.quick);
  h.resume = offset_of(e_.p);
  store_.helper_sites.add(region_, h);
}

unsigned Translator::load_gpr(unsigned guest, unsigned scratch) {
  if (guest == RCX) return HR8;
  if (guest < R8 || guest > R11) return guest;
  e_.mov_load(scratch, gpr_slot(guest));
  return scratch;
}

void Translator::store_gpr(unsigned guest, unsigned host) {
  if (guest >= R8 && guest <= R11) e_.mov_store(gpr_slot(guest), host);
}

bool Translator::access_is_checked(unsigned segment) const {
  if (!options_.inline_tlb || mode_.has(BlockMode::kAlignCheck) || mode_.has(BlockMode::kSlowData))
    return true;
  if (mode_.code_size() == CodeSize::bits64) return false;
  if (segment == FS || segment == GS) return !mode_.has(BlockMode::kFlatFsGs);
  // CS is flat or not with the code, but never writable: leave it to C++.
  return segment == CS || !mode_.has(BlockMode::kFlatData);
}

}  // namespace deja
