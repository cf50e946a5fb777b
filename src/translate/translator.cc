#include "translate/translator.h"

#include <cstddef>

#include "base/check.h"
#include "translate/classify.h"

namespace deja {
namespace {

constexpr std::size_t kCurrentPage = offsetof(ExecContext, current_page);
constexpr std::size_t kBranchTarget = offsetof(ExecContext, branch_target);
constexpr std::size_t kVectorsAway = offsetof(ExecContext, vectors_away);
constexpr std::size_t kScratch = offsetof(ExecContext, scratch);
static_assert(offsetof(ExecContext, state) == 0 && offsetof(CpuState, gpr) == 0);

std::size_t segment_base(unsigned segment) {
  return offsetof(CpuState, seg) + segment * sizeof(SegmentRegister) + offsetof(SegmentRegister, base);
}

unsigned condition_of(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_JO: return 0;
    case ZYDIS_MNEMONIC_JNO: return 1;
    case ZYDIS_MNEMONIC_JB: return 2;
    case ZYDIS_MNEMONIC_JNB: return 3;
    case ZYDIS_MNEMONIC_JZ: return 4;
    case ZYDIS_MNEMONIC_JNZ: return 5;
    case ZYDIS_MNEMONIC_JBE: return 6;
    case ZYDIS_MNEMONIC_JNBE: return 7;
    case ZYDIS_MNEMONIC_JS: return 8;
    case ZYDIS_MNEMONIC_JNS: return 9;
    case ZYDIS_MNEMONIC_JP: return 10;
    case ZYDIS_MNEMONIC_JNP: return 11;
    case ZYDIS_MNEMONIC_JL: return 12;
    case ZYDIS_MNEMONIC_JNL: return 13;
    case ZYDIS_MNEMONIC_JLE: return 14;
    case ZYDIS_MNEMONIC_JNLE: return 15;
    default: DEJA_UNREACHABLE("not a conditional jump");
  }
}

}  // namespace

TranslateStatus Translator::translate(const TranslateInput& input, u8* write, u32 offset, u64 room, BlockId* out,
                                      u32* used) {
  if (room < kMaxBlockCode) return TranslateStatus::cache_full;
  const bool stack_big = input.mode.has(BlockMode::kStackBig);
  Insn insn;
  DecodeStatus status = decode(input.bytes, std::min(input.size, 15u), input.mode.code_size(), stack_big, &insn);
  if (status == DecodeStatus::truncated) return TranslateStatus::need_next_page;

  id_ = static_cast<BlockId>(store_.blocks.size());
  mode_ = input.mode;
  block_ = Block{};
  block_.pc = input.pc;
  block_.mode = input.mode;
  block_.second_page = input.second_page;
  cold_.clear();
  cache_write_ = write - offset;
  // The near entry stands on a 16-byte boundary.
  const u32 entry = (offset + 4 + kFarEntryBytes + 15) & ~15u;
  e_ = Emitter(cache_write_ + entry - kFarEntryBytes - 4, targets_.cache_exec - reinterpret_cast<u64>(cache_write_));
  e_.d(id_);
  block_.far_entry = offset_of(e_.p);
  e_.b(0x4d, 0x8d, 0x89), e_.d(-static_cast<u32>(block_.page_offset()));  // lea r9, [r9 - offset]
  e_.mov_store(ctx(kCurrentPage), HR9);
  block_.near_entry = offset_of(e_.p);
  e_.b(0x4d, 0x8d, 0x9b);  // lea r11, [r11 - count * 64]
  u8* const count_at = e_.p;
  e_.d(0);
  e_.sarx(HR10, HR11, HR11);
  e_.b(0x45, 0x0f, 0xb6), e_.b(0x8a), e_.d(static_cast<u32>(targets_.probe_base));  // movzx r9d, byte [r10 + probe]

  const unsigned most = input.mode.limit() ? std::min<unsigned>(input.mode.limit(), options_.max_insns) : options_.max_insns;
  unsigned pos = 0;
  const bool crossing = input.second_page.value != ~u64{0};
  current_insn_ = 0;
  bool open = true;
  while (open) {
    insn_start_ = block_.page_offset() + pos;
    block_.insn_offset.push_back(static_cast<u16>(insn_start_));
    mark();
    if (status != DecodeStatus::ok) {
      insn = Insn{};
      insn.length = 1;
      insn_end_ = insn_start_ + 1;
      emit_helper(insn, true, status == DecodeStatus::too_long ? kGP : kUD);
      ++current_insn_;
      ++pos;
      break;
    }
    insn_end_ = insn_start_ + insn.length;
    pos += insn.length;
    open = translate_insn(insn);
    ++current_insn_;
    if (!open) break;
    if (current_insn_ >= most || crossing || pos >= input.size ||
        std::binary_search(input.cuts.begin(), input.cuts.end(), insn_end_)) {
      exit_to(static_cast<i32>(insn_end_));
      break;
    }
    status = decode(input.bytes + pos, std::min(input.size - pos, 15u), input.mode.code_size(), stack_big, &insn);
    if (status == DecodeStatus::truncated) {
      exit_to(static_cast<i32>(insn_end_));
      break;
    }
  }
  block_.count = current_insn_;
  block_.bytes = static_cast<u16>(pos);
  block_.insn_offset.push_back(static_cast<u16>(block_.page_offset() + pos));
  const u32 steps = -(static_cast<u32>(block_.count) << kCounterShift);
  std::memcpy(count_at, &steps, 4);
  for (std::size_t i = 0; i < cold_.size(); ++i) {
    current_insn_ = cold_[i].insn;
    insn_start_ = block_.insn_offset[current_insn_];
    insn_end_ = block_.insn_offset[current_insn_ + 1u];
    mark();
    auto emit = std::move(cold_[i].emit);
    emit();
  }
  block_.end = offset_of(e_.p);
  DEJA_CHECK(block_.end - offset <= kMaxBlockCode, "block of {} bytes of host code", block_.end - offset);
  store_.blocks.push_back(std::move(block_));
  *out = id_;
  *used = block_.end - offset;
  return TranslateStatus::ok;
}

void Translator::mark() { block_.marks.push_back({offset_of(e_.p), current_insn_}); }

bool Translator::translate_insn(const Insn& i) {
  if (const u8 gate = fpu_gate(i, mode_); gate != 0xff) return emit_helper(i, true, gate), false;
  Way way = classify(i);
  if (i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && !options_.avx_model) return emit_helper(i, true, kUD), false;
  if (!options_.avx_model && (i.isa_ext == ZYDIS_ISA_EXT_MOVBE)) return emit_helper(i, true, kUD), false;
  if (way == Way::carry && options_.soft_flags) {
    // Without BMI1 and LZCNT these bytes are BSF and BSR.
    Insn meant = i;
    if (!options_.avx_model && i.mnemonic == ZYDIS_MNEMONIC_TZCNT) meant.mnemonic = ZYDIS_MNEMONIC_BSF;
    if (!options_.avx_model && i.mnemonic == ZYDIS_MNEMONIC_LZCNT) meant.mnemonic = ZYDIS_MNEMONIC_BSR;
    const FlagGroup group = flag_group(meant.mnemonic);
    if (group != FlagGroup::none && (options_.soft_flags >> static_cast<unsigned>(group) & 1))
      return emit_helper(meant, false), true;
  }
  const bool flat_stack = mode_.has(BlockMode::kFlatData);
  const bool flat_code = mode_.has(BlockMode::kFlatCode);
  const bool word_branch = i.operand_size == 2 && mode_.code_size() != CodeSize::bits64;
  switch (way) {
    case Way::push:
    case Way::pop:
    case Way::leave:
      if (!flat_stack || (way == Way::leave && i.operand_size == 2)) return emit_helper(i, true), false;
      break;
    case Way::call:
    case Way::ret:
      if (!flat_stack || !flat_code || word_branch) return emit_helper(i, true), false;
      break;
    case Way::jump:
    case Way::jcc:
    case Way::loop:
      if (!flat_code || word_branch) return emit_helper(i, true), false;
      break;
    default: break;
  }
  switch (way) {
    case Way::carry:
      if (uses_vectors(i)) need_vectors();
      emit_carried(i);
      return true;
    case Way::nothing: return true;
    case Way::lea: emit_lea(i); return true;
    case Way::moffs: emit_moffs(i); return true;
    case Way::push:
      emit_push(i);
      if (!i.has_mem) return true;
      return exit_to(static_cast<i32>(insn_end_)), false;
    case Way::pop:
      emit_pop(i);
      if (!i.has_mem) return true;
      return exit_to(static_cast<i32>(insn_end_)), false;
    case Way::leave: {
      e_.lea(HR9, HRBP, -1, 1, 0, mode_.code_size() == CodeSize::bits64);
      const u8 size = i.code_size == CodeSize::bits64 ? 8 : 4;
      emit_access({.size = size, .read = true, .segment = SS}, [this, size] {
        if (size == 8) {
          e_.mov_load_indexed(HRCX, HR9, HR10);
          e_.lea(HRSP, HRBP, -1, 1, 8);
          e_.mov(HRBP, HRCX);
        } else {
          e_.b(0x43), e_.b(0x8b, 0x0c, 0x11);  // mov ecx, [r9+r10]
          e_.lea(HRSP, HRBP, -1, 1, 4, false);
          e_.mov32(HRBP, HRCX);
        }
      });
      return true;
    }
    case Way::jump: return emit_jump(i);
    case Way::jcc: emit_jcc(i); return false;
    case Way::call: emit_call(i); return false;
    case Way::ret: emit_ret(i); return false;
    case Way::loop: emit_loop(i); return false;
    case Way::helper: {
      emit_helper(i, true);
      const QuickOp quick = store_.helper_sites.back().quick;
      return quick != QuickOp::none && quick_goes_on(quick);
    }
    case Way::helper_inline: emit_helper(i, false); return true;
  }
  DEJA_UNREACHABLE();
}

void Translator::need_vectors() {
  // Code for CPL 3 is never entered without them.
  if (mode_.has(BlockMode::kUser) || block_.vectors) return;
  block_.vectors = true;
  e_.movzx8_load(HRCX, ctx(kVectorsAway));
  u8* const there = e_.jrcxz();
  e_.lea_rip(HRCX, e_.here() + 7 + 5);
  e_.jmp(targets_.load_vectors);
  e_.land(there);
}

void Translator::emit_helper(const Insn& insn, bool ends, u8 raise) {
  const u32 site = static_cast<u32>(store_.helper_sites.size());
  HelperSite h{};
  h.block = id_;
  h.insn = current_insn_;
  h.ends_block = ends;
  h.raise = raise;
  h.decoded = insn;
  if (raise == 0xff && options_.quick) h.quick = quick_op(insn, mode_);
  e_.mov_imm32(HRCX, site);
  e_.jmp(h.quick == QuickOp::none ? targets_.helper : targets_.quick);
  h.resume = offset_of(e_.p);
  store_.helper_sites.push_back(h);
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

bool Translator::access_is_checked(const Insn& i, unsigned segment) const {
  if (!options_.inline_tlb || mode_.has(BlockMode::kAlignCheck) || mode_.has(BlockMode::kSlowData)) return true;
  if (mode_.code_size() == CodeSize::bits64) return false;
  if (segment == FS || segment == GS) return !mode_.has(BlockMode::kFlatFsGs);
  // CS is flat or not with the code, but never writable: leave it to C++.
  return segment == CS || !mode_.has(BlockMode::kFlatData);
}

void Translator::emit_address(const Insn& i, i32 rsp_bias) {
  const MemOperand& m = i.mem;
  const bool wide = m.address_size == 8;
  if (m.rip_relative) {
    e_.mov_load(HR9, ctx(kCurrentPage));
    const i64 disp = m.disp + insn_end_;
    if (disp == static_cast<i32>(disp)) {
      e_.lea(HR9, HR9, -1, 1, static_cast<i32>(disp), wide);
    } else {
      e_.lea(HR9, HR9, -1, 1, static_cast<i32>(insn_end_));
      e_.lea(HR9, HR9, -1, 1, static_cast<i32>(m.disp), wide);
    }
  } else {
    const int base = m.base < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.base), HR9));
    const int index = m.index < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.index), HR10));
    const i32 disp = static_cast<i32>(m.disp) + (m.base == RSP ? rsp_bias : 0);
    // An index of RSP cannot be encoded, and the decoder never yields one in 32- and 64-bit addressing.
    e_.lea(HR9, base, index, m.scale, disp, wide);
    if (m.address_size == 2) e_.movzx16(HR9, HR9);
  }
  const bool segment_added = m.segment == FS || m.segment == GS;
  if (segment_added && !access_is_checked(i, m.segment)) {
    e_.mov_load(HR10, ctx(segment_base(m.segment)));
    e_.lea(HR9, HR9, HR10, 1, 0, mode_.code_size() == CodeSize::bits64);
  }
}

void Translator::emit_access(const AccessSpec& spec, std::function<void()> op) {
  const u32 site_id = static_cast<u32>(store_.mem_sites.size());
  MemSite site{};
  site.block = id_;
  site.insn = current_insn_;
  site.size = spec.size;
  site.read = spec.read;
  site.write = spec.write;
  site.segment = spec.segment;
  site.align = spec.align;
  site.checked = spec.checked || access_is_checked(Insn{}, spec.segment);
  site.waits_fpu = spec.waits_fpu;
  site.mmx_store = spec.mmx_store;
  site.x87_store = spec.x87_store;
  site.converts = spec.converts;
  site.after = spec.after;
  site.target = spec.target;
  site.hot = offset_of(e_.p);
  u8* miss = nullptr;
  if (!site.checked) {
    const u32 view = static_cast<u32>(mode_.view()) * sizeof(ViewTables);
    e_.rorx32(HR10, HR9, kPageShift);
    e_.movzx16(HR10, HR10);
    e_.mov_load_gs(HRCX, HR10, view + static_cast<u32>(spec.write ? offsetof(ViewTables, write_tag) : offsetof(ViewTables, read_tag)));
    e_.lea(HRCX, HRCX, HR9, 1, spec.size - 1);
    e_.shrx(HRCX, HRCX, HR11);
    u8* hit = e_.jrcxz();
    e_.b(0xe9);
    miss = e_.p;
    e_.d(0);
    e_.land(hit);
    e_.mov_load_gs(HR10, HR10, view + static_cast<u32>(offsetof(ViewTables, addend)));
    op();
  } else {
    e_.b(0xe9);
    miss = e_.p;
    e_.d(0);
  }
  site.resume = offset_of(e_.p);
  store_.mem_sites.push_back(site);
  deferred([this, site_id, miss, op = std::move(op), keep = spec.keep_r9] {
    const u32 displacement = static_cast<u32>(e_.p - (miss + 4));
    std::memcpy(miss, &displacement, 4);
    e_.mov_imm32(HRCX, site_id);
    e_.jmp(targets_.mem_slow);
    store_.mem_sites[site_id].special = offset_of(e_.p);
    op();
    if (keep) e_.mov_store(ctx(kScratch), HR9);
    e_.mov_imm32(HRCX, site_id);
    e_.jmp(targets_.mem_commit);
    if (keep) {
      // The commit resumes here instead.
      MemSite& s = store_.mem_sites[site_id];
      const u32 back = s.resume;
      s.resume = offset_of(e_.p);
      e_.mov_load(HR9, ctx(kScratch));
      e_.jmp(targets_.cache_exec + back);
    }
  });
}

void Translator::emit_carried(const Insn& i) {
  if (!i.has_mem || i.mnemonic == ZYDIS_MNEMONIC_NOP) return emit_op(i);
  const Operand* mem = nullptr;
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].kind == OperandKind::mem) mem = &i.op[k];
  if (!mem || mem->size == 0) return emit_op(i);
  AccessSpec spec;
  spec.size = mem->size;
  spec.read = mem->read;
  spec.write = mem->written;
  if (!spec.read && !spec.write) spec.read = true;
  spec.segment = i.mem.segment;
  spec.align = required_alignment(i);
  const bool mmx = uses_mmx(i);
  spec.waits_fpu = mmx || waits_for_fpu(i);
  spec.mmx_store = mmx && spec.write;
  spec.converts = i.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH;
  spec.x87_store = !mmx && spec.waits_fpu && spec.write;
  emit_address(i);
  emit_access(spec, [this, i] { emit_op(i); });
}

void Translator::emit_lea(const Insn& i) {
  // No segment, no access; the result is truncated to the operand size.
  Insn plain = i;
  plain.mem.segment = DS;
  const Operand& to = i.op[0];
  emit_address(plain);
  if (i.operand_size == 2) {
    // mov word reg, r9w: merges into the register.
    if (to.reg >= R8 && to.reg <= R11) {
      e_.b(0x66), e_.b(0x44, 0x89), e_.rip(HR9, gpr_slot(to.reg));
    } else {
      const unsigned h = to.reg == RCX ? HR8 : to.reg;
      e_.b(0x66), e_.b(static_cast<u8>(0x44 | h >> 3), 0x89, static_cast<u8>(0xc8 | (h & 7)));
    }
    return;
  }
  if (i.operand_size == 4) e_.mov32(HR9, HR9);
  if (to.reg >= R8 && to.reg <= R11) e_.mov_store(gpr_slot(to.reg), HR9);
  else e_.mov(to.reg == RCX ? static_cast<unsigned>(HR8) : to.reg, HR9);
}

void Translator::emit_moffs(const Insn& i) {
  // A0..A3: AL/AX/EAX/RAX and an absolute address; emitted as 8A/8B/88/89 with rax and [r9+r10].
  const bool load = i.opcode == 0xa0 || i.opcode == 0xa1;
  const u8 size = i.op[0].kind == OperandKind::mem ? i.op[0].size : i.op[1].size;
  AccessSpec spec;
  spec.size = size;
  spec.read = load;
  spec.write = !load;
  spec.segment = i.mem.segment;
  const u64 mask = i.mem.address_size == 8 ? ~u64{0} : i.mem.address_size == 4 ? 0xffffffff : 0xffff;
  e_.mov_imm(HR9, static_cast<i64>(static_cast<u64>(i.mem.disp) & mask));
  if ((i.mem.segment == FS || i.mem.segment == GS) && !access_is_checked(i, i.mem.segment)) {
    e_.mov_load(HR10, ctx(segment_base(i.mem.segment)));
    e_.lea(HR9, HR9, HR10, 1, 0, mode_.code_size() == CodeSize::bits64);
  }
  emit_access(spec, [this, load, size] {
    if (size == 2) e_.b(0x66);
    e_.b(static_cast<u8>(size == 8 ? 0x4b : 0x43));
    e_.b(static_cast<u8>((load ? 0x8a : 0x88) | (size == 1 ? 0 : 1)), 0x04, 0x11);
  });
}

void Translator::push_prologue(unsigned size) {
  e_.lea(HR9, HRSP, -1, 1, -static_cast<i32>(size), mode_.code_size() == CodeSize::bits64);
}

void Translator::emit_push(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = i.operand_size;
  const Operand& from = i.op[0];
  if (from.kind == OperandKind::mem) {
    emit_address(i);
    AccessSpec load;
    load.size = size;
    load.read = true;
    load.segment = i.mem.segment;
    load.after = AfterSite::resume_only;
    load.keep_r9 = true;
    emit_access(load, [this, size] {
      if (size == 2) e_.b(0x66);
      e_.b(static_cast<u8>(size == 8 ? 0x4f : 0x47), 0x8b), e_.b(0x0c, 0x11);  // mov r9, [r9+r10]
    });
    e_.mov_store(ctx(kBranchTarget), HR9);
  }
  push_prologue(size);
  AccessSpec spec;
  spec.size = size;
  spec.write = true;
  spec.segment = SS;
  emit_access(spec, [this, i, from, size, wide] {
    unsigned value = HRCX;
    if (from.kind == OperandKind::gpr) value = load_gpr(from.reg, HRCX);
    else if (from.kind == OperandKind::imm) e_.mov_imm(HRCX, i.imm);
    else e_.mov_load(HRCX, ctx(kBranchTarget));
    if (size == 2) e_.b(0x66);
    // mov [r9+r10], value
    e_.b(static_cast<u8>((size == 8 ? 0x4b : 0x43) | (value >> 3) << 2), 0x89);
    e_.b(static_cast<u8>(0x04 | (value & 7) << 3), 0x11);
    e_.lea(HRSP, HRSP, -1, 1, -static_cast<i32>(size), wide);
  });
}

void Translator::emit_pop(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = i.operand_size;
  const Operand& to = i.op[0];
  const auto load_to = [this, size](unsigned reg) {  // mov reg, [r9+r10], merging when 16 bits wide
    if (size == 2) e_.b(0x66);
    e_.b(static_cast<u8>((size == 8 ? 0x4b : 0x43) | (reg >> 3) << 2), 0x8b);
    e_.b(static_cast<u8>(0x04 | (reg & 7) << 3), 0x11);
  };
  AccessSpec load;
  load.size = size;
  load.read = true;
  load.segment = SS;
  e_.lea(HR9, HRSP, -1, 1, 0, wide);
  if (to.kind == OperandKind::mem) {
    load.after = AfterSite::resume_only;
    load.keep_r9 = true;
    emit_access(load, [load_to] { load_to(HR9); });
    e_.mov_store(ctx(kBranchTarget), HR9);
    emit_address(i, size);
    AccessSpec store;
    store.size = size;
    store.write = true;
    store.segment = i.mem.segment;
    emit_access(store, [this, size, wide] {
      e_.mov_load(HRCX, ctx(kBranchTarget));
      if (size == 2) e_.b(0x66);
      e_.b(static_cast<u8>(size == 8 ? 0x4b : 0x43), 0x89);
      e_.b(0x0c, 0x11);
      e_.lea(HRSP, HRSP, -1, 1, size, wide);
    });
    return;
  }
  emit_access(load, [this, load_to, to, size, wide] {
    if (to.reg >= R8 && to.reg <= R11) {
      load_to(HRCX);
      if (size == 2) e_.b(0x66), e_.b(0x89), e_.rip(HRCX, gpr_slot(to.reg));
      else e_.mov_store(gpr_slot(to.reg), HRCX);
      e_.lea(HRSP, HRSP, -1, 1, size, wide);
    } else if (to.reg == RSP) {
      if (size == 2) {
        load_to(HRCX);
        e_.lea(HRSP, HRSP, -1, 1, size, wide);
        e_.b(0x66), e_.b(0x89, 0xcc);  // mov sp, cx
      } else {
        load_to(HRSP);
      }
    } else {
      load_to(to.reg == RCX ? static_cast<unsigned>(HR8) : to.reg);
      e_.lea(HRSP, HRSP, -1, 1, size, wide);
    }
  });
}

// --- control flow

u32 Translator::branch_site(i32 popped) {
  if (mode_.code_size() != CodeSize::bits64) return kNone;
  store_.branch_sites.push_back({id_, current_insn_, popped});
  return static_cast<u32>(store_.branch_sites.size() - 1);
}

void Translator::exit_to(i32 target, u32 branch) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  if (linkable(target) && !mode_.limit() && options_.link && mode_.has(BlockMode::kFlatCode)) {
    const u32 link = static_cast<u32>(store_.link_sites.size());
    e_.b(0xe9);
    store_.link_sites.push_back({id_, offset_of(e_.p), 0, static_cast<u16>(target)});
    e_.d(0);
    deferred([this, link] {
      LinkSite& l = store_.link_sites[link];
      l.stub = offset_of(e_.p);
      const u32 displacement = l.stub - (l.patch + 4);
      std::memcpy(cache_write_ + l.patch, &displacement, 4);
      e_.mov_imm32(HRCX, link);
      e_.jmp(targets_.link);
    });
    return;
  }
  e_.mov_load(HR9, ctx(kCurrentPage));
  e_.lea(HR9, HR9, -1, 1, target, wide);
  exit_indirect(branch);
}

void Translator::exit_indirect(u32 branch) {
  // Outside flat segments the dispatcher compares every target with the limit of CS.
  if (mode_.limit() || !options_.inline_jumps || !mode_.has(BlockMode::kFlatCode)) {
    e_.mov_imm32(HRCX, branch);
    return e_.jmp(targets_.dispatch);
  }
  const u32 view = static_cast<u32>(mode_.view()) * sizeof(ViewTables);
  e_.rorx32(HR10, HR9, kJumpSlotShift);
  e_.lea(HR10, HR10, HR9, 1, 0);
  e_.movzx16(HR10, HR10);
  e_.mov_load_gs(HRCX, HR10, view + static_cast<u32>(offsetof(ViewTables, jump_tag)));
  e_.lea(HRCX, HRCX, HR9, 1, 0);
  u8* hit = e_.jrcxz();
  e_.mov_imm32(HRCX, branch);
  e_.jmp(targets_.dispatch);
  e_.land(hit);
  e_.jmp_gs(HR10, view + static_cast<u32>(offsetof(ViewTables, jump_code)));
}

void Translator::jcc_to(unsigned condition, i32 target) {
  const bool same_page = target >= 0 && target < static_cast<i32>(kPageSize);
  e_.b(0x0f, static_cast<u8>(0x80 | condition));
  u8* const patch = e_.p;
  e_.d(0);
  if (linkable(target) && !mode_.limit() && options_.link) {
    const u32 link = static_cast<u32>(store_.link_sites.size());
    store_.link_sites.push_back({id_, offset_of(patch), 0, static_cast<u16>(target)});
    deferred([this, link] {
      LinkSite& l = store_.link_sites[link];
      l.stub = offset_of(e_.p);
      const u32 displacement = l.stub - (l.patch + 4);
      std::memcpy(cache_write_ + l.patch, &displacement, 4);
      e_.mov_imm32(HRCX, link);
      e_.jmp(targets_.link);
    });
    return;
  }
  const u32 branch = same_page ? kNone : branch_site();
  deferred([this, patch, target, branch] {
    const u32 displacement = static_cast<u32>(e_.p - (patch + 4));
    std::memcpy(patch, &displacement, 4);
    exit_to(target, branch);
  });
}

bool Translator::emit_jump(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  if (i.is_relative) {
    exit_to(static_cast<i32>(insn_end_ + i.imm), branch_site());
    return false;
  }
  if (i.has_mem) {
    emit_address(i);
    AccessSpec load;
    load.size = wide ? 8 : 4;
    load.read = true;
    load.segment = i.mem.segment;
    load.after = AfterSite::resume_only;
    load.keep_r9 = true;
    emit_access(load, [this, wide] { e_.b(wide ? 0x4f : 0x47, 0x8b), e_.b(0x0c, 0x11); });
  } else {
    const unsigned h = load_gpr(i.op[0].reg, HR9);
    if (wide) e_.mov(HR9, h);
    else e_.mov32(HR9, h);
  }
  exit_indirect(branch_site());
  return false;
}

void Translator::emit_jcc(const Insn& i) {
  jcc_to(condition_of(i.mnemonic), static_cast<i32>(insn_end_ + i.imm));
  exit_to(static_cast<i32>(insn_end_));
}

void Translator::emit_call(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = wide ? 8 : 4;
  AccessSpec spec;
  spec.size = size;
  spec.write = true;
  spec.segment = SS;
  if (i.is_relative) {
    spec.after = AfterSite::direct_target;
    spec.target = static_cast<i32>(insn_end_ + i.imm);
  } else {
    spec.after = AfterSite::branch_target;
    if (i.has_mem) {
      emit_address(i);
      AccessSpec load;
      load.size = size;
      load.read = true;
      load.segment = i.mem.segment;
      load.after = AfterSite::resume_only;
      load.keep_r9 = true;
      emit_access(load, [this, wide] { e_.b(wide ? 0x4f : 0x47, 0x8b), e_.b(0x0c, 0x11); });
      e_.mov_store(ctx(kBranchTarget), HR9);
    } else {
      unsigned h = load_gpr(i.op[0].reg, HR9);
      if (!wide) e_.mov32(HR9, h), h = HR9;
      e_.mov_store(ctx(kBranchTarget), h);
    }
  }
  push_prologue(size);
  emit_access(spec, [this, wide, size] {
    e_.mov_load(HRCX, ctx(kCurrentPage));
    e_.lea(HRCX, HRCX, -1, 1, static_cast<i32>(insn_end_), wide);
    e_.b(wide ? 0x4b : 0x43, 0x89), e_.b(0x0c, 0x11);  // mov [r9+r10], rcx
    e_.lea(HRSP, HRSP, -1, 1, -static_cast<i32>(size), wide);
  });
  // As on hardware, the return address is in memory when a target that is not canonical raises #GP.
  const u32 branch = branch_site(-static_cast<i32>(size));
  if (i.is_relative) return exit_to(spec.target, branch);
  e_.mov_load(HR9, ctx(kBranchTarget));
  exit_indirect(branch);
}

void Translator::emit_ret(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = wide ? 8 : 4;
  const i32 drop = size + (i.opcode == 0xc2 ? static_cast<i32>(i.imm & 0xffff) : 0);
  AccessSpec load;
  load.size = size;
  load.read = true;
  load.segment = SS;
  load.after = AfterSite::resume_only;
  load.keep_r9 = true;
  e_.lea(HR9, HRSP, -1, 1, 0, wide);
  emit_access(load, [this, wide, drop] {
    e_.b(wide ? 0x4f : 0x47, 0x8b), e_.b(0x0c, 0x11);  // mov r9, [r9+r10]
    e_.lea(HRSP, HRSP, -1, 1, drop, wide);
  });
  exit_indirect(branch_site(drop));
}

void Translator::emit_loop(const Insn& i) {
  const i32 target = static_cast<i32>(insn_end_ + i.imm);
  const bool counts = i.mnemonic == ZYDIS_MNEMONIC_LOOP || i.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
                      i.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
  const unsigned size = i.address_size;
  if (counts) {
    if (size == 2) {
      e_.lea(HR9, HR8, -1, 1, -1, false);
      e_.b(0x66), e_.b(0x45, 0x89, 0xc8);  // mov r8w, r9w
    } else {
      e_.lea(HR8, HR8, -1, 1, -1, size == 8);
    }
  }
  if (size == 2) e_.movzx16(HRCX, HR8);
  else if (size == 4) e_.mov32(HRCX, HR8);
  else e_.mov(HRCX, HR8);
  if (!counts) {
    u8* zero = e_.jrcxz();
    u8* over = e_.p;
    e_.b(0xe9), e_.d(0);
    e_.land(zero);
    exit_to(target);
    const u32 displacement = static_cast<u32>(e_.p - (over + 5));
    std::memcpy(over + 1, &displacement, 4);
    exit_to(static_cast<i32>(insn_end_));
    return;
  }
  u8* done = e_.jrcxz();
  if (i.mnemonic == ZYDIS_MNEMONIC_LOOP) exit_to(target);
  else {
    jcc_to(i.mnemonic == ZYDIS_MNEMONIC_LOOPE ? 4 : 5, target);
    e_.land(done);
    exit_to(static_cast<i32>(insn_end_));
    return;
  }
  e_.land(done);
  exit_to(static_cast<i32>(insn_end_));
}

}  // namespace deja
