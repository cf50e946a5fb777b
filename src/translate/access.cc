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
    const int index = m.index < 0 ? -1 : static_cast<int>(load_gpr(static_cast<unsigned>(m.index), HR10));
    if (index == HR10) r10_group_ = -1;
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
    e_.mov_load(HR10, ctx(segment_base(m.segment)));
    r10_group_ = -1;
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
  if (options_.probes && targets_.page_probe) {
    site.probe = offset_of(e_.p);
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

void Translator::emit_access(const Address& address, const AccessSpec& spec, std::function<void()> op) {
  const PlannedAccess& plan = insns_[current_insn_].access[access_++];
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
    if (r10_group_ != plan.group) e_.mov_load(HR10, ctx(group_slot(static_cast<unsigned>(plan.group))));
    r10_group_ = plan.group;
    return op();
  }
  // An address that stands in a register is looked up from there.
  i32 disp = 0;
  const int base = mode_.code_size() == CodeSize::bits64 ? direct_base(address, &disp) : -1;
  const bool lean = base >= 0 && disp == plan.before && !access_is_checked(spec.segment);
  if (!lean) emit_address(address, -plan.before);
  const u32 site_id = static_cast<u32>(store_.mem_sites.size());
  MemSite site{};
  site.block = id_;
  site.insn = current_insn_;
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
  if (lean) site.base = base == HR8 ? u8{RCX} : static_cast<u8>(base);
  site.hot = offset_of(e_.p);
  const bool leads = plan.leads;
  if (leads) {
    site.before = plan.before;
    site.span = plan.span;
    site.group_writes = plan.writes;
  }
  u8* miss = nullptr;
  if (!site.checked) {
    const unsigned at = lean ? static_cast<unsigned>(base) : static_cast<unsigned>(HR9);
    emit_lookup(at, static_cast<u8>((leads ? plan.span : spec.size) - 1), leads ? plan.writes : spec.write,
                site, &miss);
    r10_group_ = -1;
    if (leads) {
      e_.mov_store(ctx(group_slot(static_cast<unsigned>(plan.group))), HR10);
      r10_group_ = plan.group;
    }
    mem_base_ = at;
    mem_disp_ = plan.before;
    op();
  } else {
    r10_group_ = -1;
    e_.b(0xe9);
    miss = e_.p;
    e_.d(0);
  }
  site.resume = offset_of(e_.p);
  store_.mem_sites.push_back(site);
  deferred([this, site_id, miss, lean, base, op = std::move(op), keep = spec.keep_r9] {
    store_.mem_sites[site_id].miss = offset_of(e_.p);
    if (miss) {
      const u32 displacement = static_cast<u32>(e_.p - (miss + 4));
      std::memcpy(miss, &displacement, 4);
    }
    if (lean) e_.mov(HR9, static_cast<unsigned>(base));
    e_.mov_imm32(HRCX, site_id);
    e_.jmp(targets_.mem_slow);
    store_.mem_sites[site_id].special = offset_of(e_.p);
    mem_base_ = HR9;
    mem_disp_ = 0;
    op();
    if (keep) e_.mov_store(ctx(offsetof(ExecContext, scratch)), HR9);
    e_.mov_imm32(HRCX, site_id);
    e_.jmp(targets_.mem_commit);
    if (keep) {
      // The commit resumes here instead.
      MemSite& s = store_.mem_sites[site_id];
      const u32 back = s.resume;
      s.resume = offset_of(e_.p);
      e_.mov_load(HR9, ctx(offsetof(ExecContext, scratch)));
      e_.jmp(targets_.cache_exec + back);
    }
  });
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

void Translator::load_to_r9(const Address& address, u8 size, u8 segment, std::function<void()> then) {
  AccessSpec load;
  load.size = size;
  load.read = true;
  load.segment = segment;
  load.after = AfterSite::resume_only;
  load.keep_r9 = true;
  emit_access(address, load, [this, size, then = std::move(then)] {
    load_mem(HR9, size);
    then();
  });
}

}  // namespace deja
