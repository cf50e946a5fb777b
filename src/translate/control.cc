// Control flow: jumps, calls, returns, and the ways out of a block.
#include <cstddef>

#include "base/check.h"
#include "translate/translator.h"

namespace deja {
namespace {

unsigned condition_of(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_JO:
      return 0;
    case ZYDIS_MNEMONIC_JNO:
      return 1;
    case ZYDIS_MNEMONIC_JB:
      return 2;
    case ZYDIS_MNEMONIC_JNB:
      return 3;
    case ZYDIS_MNEMONIC_JZ:
      return 4;
    case ZYDIS_MNEMONIC_JNZ:
      return 5;
    case ZYDIS_MNEMONIC_JBE:
      return 6;
    case ZYDIS_MNEMONIC_JNBE:
      return 7;
    case ZYDIS_MNEMONIC_JS:
      return 8;
    case ZYDIS_MNEMONIC_JNS:
      return 9;
    case ZYDIS_MNEMONIC_JP:
      return 10;
    case ZYDIS_MNEMONIC_JNP:
      return 11;
    case ZYDIS_MNEMONIC_JL:
      return 12;
    case ZYDIS_MNEMONIC_JNL:
      return 13;
    case ZYDIS_MNEMONIC_JLE:
      return 14;
    case ZYDIS_MNEMONIC_JNLE:
      return 15;
    default:
      DEJA_UNREACHABLE("not a conditional jump");
  }
}

u32 view_offset(View view) { return static_cast<u32>(view) * sizeof(ViewTables); }

}  // namespace

u32 Translator::branch_site(i32 popped) {
  if (mode_.code_size() != CodeSize::bits64) return kNone;
  return store_.branch_sites.add(region_, {id_, current_insn_, popped, static_cast<u16>(rest())});
}

// An instruction that may cross the end of the page is found by its linear address: which page follows
// depends on the address space.
bool Translator::links_to(i32 target) const {
  return target >= 0 && target <= static_cast<i32>(kPageSize - kMaxInsnBytes) && !mode_.limit() &&
         options_.link && mode_.has(BlockMode::kFlatCode);
}

void Translator::link_at(u8* patch, i32 target) {
  const u32 link = store_.link_sites.add(region_, {id_, offset_of(patch), 0, static_cast<u16>(target)});
  deferred(Cold::Kind::link_stub, link, patch);
}

void Translator::exit_to(i32 target, u32 branch) {
  if (links_to(target)) {
    e_.b(0xe9);
    u8* const patch = e_.p;
    e_.d(0);
    return link_at(patch, target);
  }
  const bool far_link = has_far_links();
  const u32 site = far_link ? store_.far_links.add(region_, {id_, branch}) : kNone;
  if (far_link) e_.mov_imm32(HRCX, site);
  e_.mov_load(HR9, ctx(offsetof(ExecContext, current_page)));
  e_.lea(HR9, HR9, -1, 1, target, mode_.code_size() == CodeSize::bits64);
  if (!far_link) return exit_indirect(branch);
  e_.jmp_gs(view_offset(mode_.view()) + static_cast<u32>(offsetof(ViewTables, far_link)) +
            8 * far_link_slot(site));
}

// Blocks with breakpoints' pages in view are reached through C++ only, and limited ones are run once.
bool Translator::has_far_links() const {
  return options_.far_links && options_.link && options_.inline_jumps && !mode_.limit() &&
         mode_.has(BlockMode::kCode64) && !mode_.has(BlockMode::kObserved) &&
         store_.far_links.in(region_).size() < kFarLinksPerRegion;
}

void Translator::exit_indirect(u32 branch) {
  // Outside flat segments the dispatcher compares every target with the limit of CS.
  if (mode_.limit() || !options_.inline_jumps || !mode_.has(BlockMode::kFlatCode)) {
    e_.mov_imm32(HRCX, branch);
    return e_.jmp(targets_.dispatch);
  }
  u8* const hit = emit_jump_lookup(e_, mode_.view());
  e_.mov_imm32(HRCX, branch);
  e_.jmp(targets_.jump_miss);
  e_.land(hit);
  emit_jump_hit(e_, mode_.view());
}

u8* emit_jump_lookup(Emitter& e, View view) {
  e.rorx32(HR10, HR9, kJumpSlotShift);
  e.lea(HR10, HR10, HR9, 1, 0);
  e.movzx16(HR10, HR10);
  e.mov_load_gs(HRCX, HR10, view_offset(view) + static_cast<u32>(offsetof(ViewTables, jump_tag)));
  e.lea(HRCX, HRCX, HR9, 1, 0);
  return e.jrcxz();
}

void emit_jump_hit(Emitter& e, View view) {
  e.jmp_gs(HR10, view_offset(view) + static_cast<u32>(offsetof(ViewTables, jump_code)));
}

void Translator::jcc_to(unsigned condition, i32 target) {
  e_.b(0x0f, static_cast<u8>(0x80 | condition));
  u8* const patch = e_.p;
  e_.d(0);
  if (rest() == 0 && links_to(target)) return link_at(patch, target);
  // The way out of an unrolled turn is to fall through: behind the canonical addresses that is no fault of
  // the jump's.
  const bool falls_through = insns_[current_insn_].goes_round;
  const bool in_page = target >= 0 && target < static_cast<i32>(kPageSize);
  const u32 branch = in_page || falls_through ? kNone : branch_site();
  deferred(Cold::Kind::side_exit, branch, patch, target);
}

void Translator::emit_jump(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  if (i.is_relative) return exit_to(static_cast<i32>(insn_end_ + i.imm), branch_site());
  if (i.has_mem) {
    load_to_r9({&i}, wide ? 8 : 4, i.mem.segment);
  } else {
    const unsigned h = load_gpr(i.op[0].reg, HR9);
    if (wide)
      e_.mov(HR9, h);
    else
      e_.mov32(HR9, h);
  }
  exit_indirect(branch_site());
}

void Translator::emit_jcc(const Insn& i) {
  const unsigned condition = condition_of(i.mnemonic);
  if (insns_[current_insn_].goes_round) return jcc_to(condition ^ 1, static_cast<i32>(insn_end_));
  jcc_to(condition, static_cast<i32>(insn_end_ + i.imm));
  if (last()) return exit_to(static_cast<i32>(insn_end_));
  if (rest() == 0) take_steps(block_.prepaid(current_insn_ + 1u));
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
      load_to_r9({&i}, size, i.mem.segment);
      e_.mov_store(ctx(offsetof(ExecContext, branch_target)), HR9);
    } else {
      unsigned h = load_gpr(i.op[0].reg, HR9);
      if (!wide) e_.mov32(HR9, h), h = HR9;
      e_.mov_store(ctx(offsetof(ExecContext, branch_target)), h);
    }
  }
  emit_access({nullptr, HRSP, -static_cast<i32>(size)}, spec);
  // As on hardware, the return address is in memory when a target that is not canonical raises #GP.
  const u32 branch = branch_site(-static_cast<i32>(size));
  if (i.is_relative) return exit_to(spec.target, branch);
  e_.mov_load(HR9, ctx(offsetof(ExecContext, branch_target)));
  exit_indirect(branch);
}

void Translator::op_call() {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  const u8 size = wide ? 8 : 4;
  e_.mov_load(HRCX, ctx(offsetof(ExecContext, current_page)));
  e_.lea(HRCX, HRCX, -1, 1, static_cast<i32>(insn_end_), wide);
  store_mem(HRCX, size);
  e_.lea(HRSP, HRSP, -1, 1, -static_cast<i32>(size), wide);
}

i32 Translator::popped_by_ret(const Insn& i) const {
  return (mode_.code_size() == CodeSize::bits64 ? 8 : 4) +
         (i.opcode == 0xc2 ? static_cast<i32>(i.imm & 0xffff) : 0);
}

void Translator::emit_ret(const Insn& i) {
  load_to_r9({nullptr, HRSP, 0}, mode_.code_size() == CodeSize::bits64 ? 8 : 4, SS);
  exit_indirect(branch_site(popped_by_ret(i)));
}

void Translator::op_ret(const Insn& i) {
  const bool wide = mode_.code_size() == CodeSize::bits64;
  load_mem(HR9, wide ? 8 : 4);
  e_.lea(HRSP, HRSP, -1, 1, popped_by_ret(i), wide);
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
  if (size == 2)
    e_.movzx16(HRCX, HR8);
  else if (size == 4)
    e_.mov32(HRCX, HR8);
  else
    e_.mov(HRCX, HR8);
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
  if (i.mnemonic == ZYDIS_MNEMONIC_LOOP)
    exit_to(target);
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
