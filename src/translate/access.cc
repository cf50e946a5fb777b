// Memory accesses: the address, the inline TLB lookup, and the way out of line.
#include <cstddef>

#include "base/check.h"
#include "translate/translator.h"

namespace deja {
namespace {

std::size_t segment_base(unsigned segment) {
  return offsetof(CpuState, seg) + segment * sizeof(SegmentRegister) + offsetof(SegmentRegister, base);
}

std::size_t group_slot(unsigned group) { return offsetof(ExecContext, group_addend) + 8 * group; }
static_assert(sizeof(ExecContext::group_addend) == 8 * kMaxGroups);

}  // namespace

void Translator::emit_address(const Insn& i, i32 bias) {
  const MemOperand& m = i.mem;
  const bool wide = m.address_size == 8;
  if (m.rip_relative) {
    e_.mov_load(HR9, ctx(offsetof(ExecContext, current_page)));
    const i64 disp = m.disp + insn_end_ + bias;
    if (disp == static_cast<i32>(disp)) {
      e_.lea(HR9, HR9, -1, 1, static_cast<i32>(disp), wide);
    } else {
      e_.lea(HR9, HR9, -1, 1, static_cast<i32>(insn_end_) + bias);
      e_.lea(HR9, HR9, -1, 1, static_cast<i32>(m.disp), wide);
    }
  } else if (m.base < 0 && m.index < 0) {
    const u64 mask = m.address_size == 8 ? ~u64{0} : m.address_size == 4 ? 0xffffffff : 0xffff;
    e_.mov_imm(HR9, static_cast<i64>(static_cast<u64>(m.disp + bias) & mask));  // 64 bits wide in a moffs
  } else {
    const int base = m.base < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.base), HR9));
    if (m.index >= R8 && m.index <= R11) lose_r10();
    const int index = m.index < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.index), HR10));
    const i64 disp = static_cast<i64>(static_cast<i32>(m.disp)) + bias;
    // An index of RSP cannot be encoded, and the decoder never yields one in 32- and 64-bit addressing.
    if (disp == static_cast<i32>(disp)) {
      e_.lea(HR9, base, index, m.scale, static_cast<i32>(disp), wide);
    } else {
      e_.lea(HR9, base, index, m.scale, static_cast<i32>(m.disp), wide);
      e_.lea(HR9, HR9, -1, 1, bias, wide);
    }
    if (m.address_size == 2) e_.movzx16(HR9, HR9);
  }
  const bool segment_added = m.segment == FS || m.segment == GS;
  if (segment_added && !access_is_checked(m.segment)) {
    lose_r10();
    e_.mov_load(HR10, ctx(segment_base(m.segment)));
    e_.lea(HR9, HR9, HR10, 1, 0, mode_.code_size() == CodeSize::bits64);
  }
}

void Translator::emit_address(const Address& a, i32 bias) {
  if (a.operand) return emit_address(*a.operand, a.disp + bias);
  e_.lea(HR9, static_cast<int>(a.base), -1, 1, a.disp + bias, mode_.code_size() == CodeSize::bits64);
}

int Translator::direct_base(const Address& a, i32* disp) const {
  if (!a.operand) return *disp = a.disp, static_cast<int>(a.base);
  const MemOperand& m = a.operand->mem;
  if (m.rip_relative || m.index >= 0 || m.base < 0 || (m.base >= R8 && m.base <= R11)) return -1;
  if (m.address_size != 8 || m.segment == FS || m.segment == GS) return -1;
  const i64 sum = i64{static_cast<i32>(m.disp)} + a.disp;
  if (sum != static_cast<i32>(sum)) return -1;
  *disp = static_cast<i32>(sum);
  return m.base == RCX ? static_cast<int>(HR8) : m.base;
}

void Translator::emit_lookup(unsigned at, u8 reach, bool write, MemSite& site, u8** miss) {
  const u32 view = static_cast<u32>(mode_.view()) * sizeof(ViewTables);
  static_assert(kTlbSlots == u64{1} << (32 - kPageShift) && kCounterLow == kPageShift);
  e_.shrx32(HR10, at, HR11);
  const std::size_t tags = write ? offsetof(ViewTables, write_tag) : offsetof(ViewTables, read_tag);
  e_.mov_load_gs(HRCX, HR10, view + static_cast<u32>(tags));
  e_.lea(HRCX, static_cast<int>(at), HRCX, 1, reach);
  e_.shrx(HRCX, HRCX, HR11);
  site.check = offset_of(e_.p);
  if (options_.probes && targets_.page_probe) {
    site.probe = site.check;
    e_.b(0x0f, 0xb6, 0x89), e_.d(static_cast<u32>(targets_.page_probe));  // movzx ecx, byte [rcx + probe]
  } else {
    u8* hit = e_.jrcxz();
    e_.b(0xe9);
    *miss = e_.p;
    e_.d(0);
    e_.land(hit);
  }
  e_.mov_load_gs(HR10, HR10, view + static_cast<u32>(offsetof(ViewTables, addend)));
}

void Translator::lose_r10() {
  if (r10_group_ >= 0 && r10_wanted_) e_.mov_store(ctx(group_slot(static_cast<unsigned>(r10_group_))), HR10);
  r10_group_ = -1;
}

void Translator::emit_slow_call(u32 site, const MemSite& s) {
  if (s.base != MemSite::kNoBase) e_.mov(HR9, s.base == RCX ? static_cast<unsigned>(HR8) : s.base);
  e_.mov_imm32(HRCX, site);
  e_.jmp(targets_.mem_slow);
}

void Translator::emit_access(const Address& address, const AccessSpec& spec) {
  const unsigned nth = access_++;
  const PlannedAccess& plan = insn_->access[nth];
  if (plan.group >= 0 && !plan.leads) {
    // Some earlier access has checked it.
    const int base = direct_base(address, &mem_disp_);
    if (base >= 0) {
      mem_base_ = static_cast<unsigned>(base);
    } else {
      emit_address(address, 0);
      mem_base_ = HR9;
      mem_disp_ = 0;
    }
    if (r10_group_ != plan.group) {
      lose_r10();
      e_.mov_load(HR10, ctx(group_slot(static_cast<unsigned>(plan.group))));
      r10_group_ = plan.group;
      r10_wanted_ = 0;
    } else if (r10_wanted_) {
      --r10_wanted_;
    }
    return emit_access_op(*insn_, nth);
  }
  // An address that stands in a register is looked up from there.
  i32 disp = 0;
  const int base = mode_.code_size() == CodeSize::bits64 ? direct_base(address, &disp) : -1;
  const bool lean = base >= 0 && disp == plan.before && !access_is_checked(spec.segment);
  if (!lean) emit_address(address, -plan.before);
  const u32 site_id = store_.mem_sites.next(region_);
  MemSite site{};
  site.block = id_;
  site.insn = current_insn_;
  site.nth = static_cast<u8>(nth);
  site.size = spec.size;
  site.read = spec.read;
  site.write = spec.write;
  site.segment = spec.segment;
  site.align = spec.align;
  site.checked = access_is_checked(spec.segment);
  site.waits_fpu = spec.waits_fpu;
  site.mmx_store = spec.mmx_store;
  site.x87_store = spec.x87_store;
  site.converts = spec.converts;
  site.after = spec.after;
  site.target = spec.target;
  site.base = !lean ? MemSite::kNoBase : base == HR8 ? u8{RCX} : static_cast<u8>(base);
  lose_r10();
  site.hot = offset_of(e_.p);
  if (site.checked) {
    emit_slow_call(site_id, site);
  } else {
    if (plan.leads) {
      site.before = plan.before;
      site.span = plan.span;
      site.group_writes = plan.writes;
    }
    u8* miss = nullptr;
    const unsigned at = lean ? static_cast<unsigned>(base) : static_cast<unsigned>(HR9);
    emit_lookup(at, static_cast<u8>((plan.leads ? plan.span : spec.size) - 1),
                plan.leads ? plan.writes : spec.write, site, &miss);
    if (miss) deferred(Cold::Kind::miss, site_id, miss);
    if (plan.leads) {
      r10_group_ = plan.group;
      r10_wanted_ = plan.left;
    }
    mem_base_ = at;
    mem_disp_ = plan.before;
    emit_access_op(*insn_, nth);
  }
  site.resume = offset_of(e_.p);
  store_.mem_sites.add(region_, site);
}

void Translator::emit_access_op(const BlockInsn& b, unsigned nth) {
  const Insn& i = b.insn;
  const bool operand_first = i.has_mem && nth == 0;  // of two accesses, or of an indirect jump
  switch (b.way) {
    case Way::carry:
      return emit_carried_op(b);
    case Way::moffs:
      return op_moffs(i);
    case Way::push:
      return operand_first ? load_mem(HR9, i.operand_size) : op_push(i);
    case Way::pop:
      return operand_first ? load_mem(HR9, i.operand_size) : op_pop(i);
    case Way::leave:
      return op_leave(i);
    case Way::call:
      return operand_first ? load_mem(HR9, i.code_size == CodeSize::bits64 ? 8 : 4) : op_call();
    case Way::jump:
      return load_mem(HR9, i.code_size == CodeSize::bits64 ? 8 : 4);
    case Way::ret:
      return op_ret(i);
    default:
      DEJA_UNREACHABLE("an instruction without accesses");
  }
}

void Translator::load_to_r9(const Address& address, u8 size, u8 segment) {
  AccessSpec load;
  load.size = size;
  load.read = true;
  load.segment = segment;
  load.after = AfterSite::resume_only;
  emit_access(address, load);
}

SpecialCopy Translator::emit_special_copies(u32 site_id, const CodeSpace& space) {
  const MemSite& wanted = store_.mem_sites[site_id];
  const Block& block = store_.blocks[wanted.block];
  const u16 start = store_.page_offset(block, wanted.insn);
  BlockInsn b;
  // As it was translated; memory may hold other bytes by now.
  const u8* const bytes = &store_.bytes[block.first_byte + start - block.page_offset()];
  form_insn({block.pc, block.mode, bytes, kMaxInsnBytes}, options_, start,
            store_.page_offset(block, wanted.insn + 1u) - start, &b);
  if (b.soft) b.way = Way::carry;  // without a fix, where nobody looks at its flags
  mode_ = block.mode;
  region_ = space.region;
  insn_ = &b;
  insn_end_ = b.end;
  cache_write_ = space.write;
  r10_group_ = -1;
  e_ = Emitter(space.write + space.cold, targets_.cache_exec - reinterpret_cast<u64>(space.write));
  auto& sites = store_.mem_sites.in(space.region);
  const auto own = [&](const MemSite& s) { return s.block == wanted.block && s.insn == wanted.insn; };
  std::size_t at = site_id & ((u32{1} << kRegionShift) - 1);
  if (at > 0 && own(sites[at - 1])) --at;
  for (; at < sites.size() && own(sites[at]); ++at) {
    MemSite& s = sites[at];
    const u32 id = space.region << kRegionShift | static_cast<u32>(at);
    s.special = offset_of(e_.p);
    mem_base_ = HR9;
    mem_disp_ = 0;
    emit_access_op(b, s.nth);
    // What a load leaves in r9 has to survive the commit.
    const bool keep = s.after == AfterSite::resume_only;
    if (keep) e_.mov_store(ctx(offsetof(ExecContext, scratch)), HR9);
    e_.mov_imm32(HRCX, id);
    e_.jmp(targets_.mem_commit);
    if (!keep) continue;
    s.special_resume = offset_of(e_.p);
    e_.mov_load(HR9, ctx(offsetof(ExecContext, scratch)));
    e_.jmp(targets_.cache_exec + s.resume);
  }
  const u32 end = offset_of(e_.p);
  DEJA_CHECK(end - space.cold <= kMaxSpecialCode, "{} bytes for the copies of an instruction",
             end - space.cold);
  return {space.cold, end, wanted.block, wanted.insn};
}

u32 Translator::emit_miss_stub(u32 site, const CodeSpace& space) {
  e_ = Emitter(space.write + space.cold, targets_.cache_exec - reinterpret_cast<u64>(space.write));
  emit_slow_call(site, store_.mem_sites[site]);
  return static_cast<u32>(e_.p - space.write);
}

bool Translator::can_leave_directly(const MemSite& site) const {
  const Block& b = store_.blocks[site.block];
  return options_.link && b.mode.has(BlockMode::kFlatCode) && !b.mode.limit() &&
         store_.page_offset(b, site.insn) <= kPageSize - kMaxInsnBytes;
}

u32 Translator::emit_leave_stub(u32 site, const CodeSpace& space) {
  const MemSite& s = store_.mem_sites[site];
  const Block& b = store_.blocks[s.block];
  e_ = Emitter(space.write + space.cold, targets_.cache_exec - reinterpret_cast<u64>(space.write));
  // This instruction and the rest of the block are the other block's.
  e_.lea(HR11, HR11, -1, 1, b.prepaid(s.insn) << kCounterShift);
  e_.b(0xe9);
  LinkSite link{s.block, static_cast<u32>(e_.p - space.write), 0, store_.page_offset(b, s.insn), true};
  e_.d(0);  // to what follows, until it is linked
  link.stub = static_cast<u32>(e_.p - space.write);
  e_.mov_imm32(HRCX, store_.link_sites.add(space.region, link));
  e_.jmp(targets_.link);
  return static_cast<u32>(e_.p - space.write);
}

void Translator::emit_mem(unsigned reg) {
  const u8 field = static_cast<u8>((reg & 7) << 3 | 4);
  const u8 sib = static_cast<u8>((HR10 & 7) << 3 | (mem_base_ & 7));
  const bool none = mem_disp_ == 0 && (mem_base_ & 7) != 5;
  const bool byte = mem_disp_ == static_cast<i8>(mem_disp_);
  e_.b(static_cast<u8>((none ? 0 : byte ? 0x40 : 0x80) | field), sib);
  if (none) return;
  if (byte)
    e_.b(static_cast<u8>(mem_disp_));
  else
    e_.d(static_cast<u32>(mem_disp_));
}

void Translator::load_mem(unsigned reg, unsigned size) {
  if (size == 2) e_.b(0x66);
  e_.b(mem_rex(reg, size == 8), 0x8b);
  emit_mem(reg);
}

void Translator::store_mem(unsigned reg, unsigned size) {
  if (size == 2) e_.b(0x66);
  e_.b(mem_rex(reg, size == 8), 0x89);
  emit_mem(reg);
}

}  // namespace deja
