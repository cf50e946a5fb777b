#include "translate/plan.h"

#include <algorithm>
#include <bit>

namespace deja {
namespace {

// A wider span would too often reach into another page.
constexpr i64 kMaxSpan = 256;
constexpr i64 kMaxOffset = 1 << 30;

// What is known of a register: an unknown value, numbered, plus a constant.
struct Value {
  u32 symbol;
  i64 offset;
};

// The immediate of ADD and SUB with 64-bit operands: sign-extended from 8 or 32 bits.
i64 immediate(const Insn& i) { return i.imm_bytes == 1 ? static_cast<i8>(i.imm) : static_cast<i32>(i.imm); }

// Accesses that come later in a longer block are checked by themselves.
constexpr unsigned kMaxAccesses = 128;

constexpr u8 kNoMember = 0xff;
struct Member {
  PlannedAccess* access;
  i64 from;
  bool writes;
  u8 next;  // of its group
};

struct Group {
  u32 base, index;
  u8 scale;
  u8 first, last;  // members
  u8 size;
  i64 from, to;
};

class Planner {
 public:
  explicit Planner(std::vector<BlockInsn>& block) : block_(block) {
    for (unsigned r = 0; r < 16; ++r) value_[r] = {next_symbol_++, 0};
    page_ = next_symbol_++;
    none_ = next_symbol_++;
  }

  void run() {
    for (BlockInsn& b : block_) {
      note_accesses(b);
      note_writes(b);
    }
    finish();
  }

 private:
  void note_operand(BlockInsn& b, unsigned nth, unsigned size, bool writes) {
    const MemOperand& m = b.insn.mem;
    if (m.segment == FS || m.segment == GS || m.address_size != 8 || m.vector_index || size == 0) return;
    if (m.rip_relative) return note(&b.access[nth], {page_, 0}, none_, 1, m.disp + b.end, size, writes);
    if (m.base < 0) return;
    const Value base = value_[static_cast<u8>(m.base)];
    if (m.index < 0) return note(&b.access[nth], base, none_, 1, m.disp, size, writes);
    const Value index = value_[static_cast<u8>(m.index)];
    note(&b.access[nth], {base.symbol, base.offset + index.offset * m.scale}, index.symbol, m.scale, m.disp,
         size, writes);
  }

  void note(PlannedAccess* access, Value base, u32 index, u8 scale, i64 disp, unsigned size, bool writes) {
    const i64 from = base.offset + disp;
    if (from > kMaxOffset || from < -kMaxOffset) return;
    const i64 to = from + size;
    if (member_count_ == kMaxAccesses) return;
    const u8 member = static_cast<u8>(member_count_++);
    members_[member] = {access, from, writes, kNoMember};
    for (unsigned k = 0; k < group_count_; ++k) {
      Group& g = groups_[k];
      if (g.base != base.symbol || g.index != index || g.scale != scale) continue;
      const i64 low = std::min(g.from, from), high = std::max(g.to, to);
      if (high - low > kMaxSpan) continue;
      g.from = low;
      g.to = high;
      members_[g.last].next = member;
      g.last = member;
      ++g.size;
      return;
    }
    groups_[group_count_++] = {base.symbol, index, scale, member, member, 1, from, to};
  }

  void note_accesses(BlockInsn& b) {
    const Insn& i = b.insn;
    const Value& rsp = value_[RSP];
    switch (b.way) {
      case Way::carry: {
        if (!i.has_mem || i.mnemonic == ZYDIS_MNEMONIC_NOP) return;
        for (unsigned k = 0; k < i.operand_count; ++k)
          if (i.op[k].kind == OperandKind::mem) note_operand(b, 0, i.op[k].size, i.op[k].written);
        return;
      }
      case Way::push:
        if (!i.has_mem) note(&b.access[0], rsp, none_, 1, -i64{i.operand_size}, i.operand_size, true);
        return;
      case Way::pop:
        if (!i.has_mem) note(&b.access[0], rsp, none_, 1, 0, i.operand_size, false);
        return;
      case Way::leave:
        return note(&b.access[0], value_[RBP], none_, 1, 0, 8, false);
      case Way::call:
        if (!i.has_mem) note(&b.access[0], rsp, none_, 1, -8, 8, true);
        return;
      case Way::ret:
        return note(&b.access[0], rsp, none_, 1, 0, 8, false);
      case Way::jump:
        if (i.has_mem) note_operand(b, 0, 8, false);
        return;
      default:
        return;
    }
  }

  void forget(unsigned r) { value_[r] = {next_symbol_++, 0}; }
  void move(unsigned r, Value v) {
    value_[r] = v;
    if (v.offset > kMaxOffset || v.offset < -kMaxOffset) forget(r);
  }

  void note_writes(const BlockInsn& b) {
    const Insn& i = b.insn;
    const Operand &to = i.op[0], &from = i.op[1];
    const Value rsp = value_[RSP];
    switch (b.way) {
      case Way::push:
        return move(RSP, {rsp.symbol, rsp.offset - i.operand_size});
      case Way::pop:
        if (i.has_mem) return;  // the block ends here
        if (to.reg == RSP) return forget(RSP);
        move(RSP, {rsp.symbol, rsp.offset + i.operand_size});
        return forget(to.reg);
      case Way::leave:
        move(RSP, {value_[RBP].symbol, value_[RBP].offset + 8});
        return forget(RBP);
      case Way::lea:
        if (to.size == 8 && i.mem.address_size == 8 && i.mem.base >= 0 && i.mem.index < 0) {
          const Value base = value_[static_cast<u8>(i.mem.base)];
          return move(to.reg, {base.symbol, base.offset + i.mem.disp});
        }
        return forget(to.reg);
      case Way::helper:
      case Way::helper_inline:
        for (unsigned r = 0; r < 16; ++r) forget(r);
        return;
      case Way::carry:
      case Way::moffs:
        break;
      default:
        return;  // writes no register, or ends the block
    }
    if (to.kind == OperandKind::gpr && to.size == 8) {
      const Value old = value_[to.reg];
      switch (i.mnemonic) {
        case ZYDIS_MNEMONIC_MOV:
          if (from.kind == OperandKind::gpr) return move(to.reg, value_[from.reg]);
          break;
        case ZYDIS_MNEMONIC_ADD:
          if (from.kind == OperandKind::imm) return move(to.reg, {old.symbol, old.offset + immediate(i)});
          break;
        case ZYDIS_MNEMONIC_SUB:
          if (from.kind == OperandKind::imm) return move(to.reg, {old.symbol, old.offset - immediate(i)});
          break;
        case ZYDIS_MNEMONIC_INC:
          return move(to.reg, {old.symbol, old.offset + 1});
        case ZYDIS_MNEMONIC_DEC:
          return move(to.reg, {old.symbol, old.offset - 1});
        default:
          break;
      }
    }
    for (unsigned left = i.gpr_written; left; left &= left - 1)
      forget(static_cast<unsigned>(std::countr_zero(left)));
  }

  void finish() {
    const Group* chosen[kMaxAccesses];
    unsigned count = 0;
    for (unsigned k = 0; k < group_count_; ++k)
      if (groups_[k].size >= 2) chosen[count++] = &groups_[k];
    // The largest groups first, when there are too many.
    if (count > kMaxGroups)
      std::stable_sort(chosen, chosen + count,
                       [](const Group* a, const Group* b) { return a->size > b->size; });
    for (unsigned number = 0; number < std::min(count, kMaxGroups); ++number) {
      const Group& g = *chosen[number];
      const Member& first = members_[g.first];
      first.access->leads = true;
      first.access->before = static_cast<i16>(first.from - g.from);
      first.access->span = static_cast<u16>(g.to - g.from);
      first.access->left = static_cast<u8>(g.size - 1);
      for (u8 m = g.first; m != kNoMember; m = members_[m].next) {
        members_[m].access->group = static_cast<i8>(number);
        first.access->writes |= members_[m].writes;
      }
    }
  }

  std::vector<BlockInsn>& block_;
  Value value_[16];
  u32 next_symbol_ = 0, page_ = 0, none_ = 0;
  unsigned group_count_ = 0, member_count_ = 0;
  Group groups_[kMaxAccesses];
  Member members_[kMaxAccesses];
};

}  // namespace

void plan_groups(std::vector<BlockInsn>& block) { Planner(block).run(); }

}  // namespace deja
