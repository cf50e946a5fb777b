// MOVS and STOS, upwards: piece by piece, as semantics/string_ops.cc cuts them.
#pragma once

#include "execute/quick_context.h"

namespace deja::quick {

template <bool kMoves>
DEJA_INLINE void copy_or_fill(u8* to, const u8* from, u64 value, u64 count, unsigned size) {
  // The host's own, element by element where the operands overlap.
  if constexpr (kMoves) {
    if (size == 8)
      asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    else if (size == 4)
      asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    else if (size == 2)
      asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count)::"memory");
    else
      asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  } else {
    if (size == 8)
      asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (size == 4)
      asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (size == 2)
      asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else
      asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  }
}

// The bytes of an element, which may lie in two pages; nullptr where the TLB does not have them.
struct ElementParts {
  u8* at[2];
  unsigned bytes[2];
};
DEJA_INLINE bool find_element(const Quick& q, bool write, Gva linear, unsigned size, ElementParts* parts) {
  const View view = q.block.mode.view();
  const unsigned in_page = static_cast<unsigned>(kPageSize - linear.offset());
  const unsigned first = size < in_page ? size : in_page;
  parts->bytes[0] = first;
  parts->bytes[1] = size - first;
  parts->at[0] = cached(q.context, view, write, linear, first);
  parts->at[1] = parts->at[0];
  if (first < size) {
    if (linear + first == Gva()) return false;  // past the last address
    parts->at[1] = cached(q.context, view, write, linear + first, size - first);
  }
  return parts->at[0] && parts->at[1];
}

template <bool kMoves>
DEJA_INLINE u64 string(const Quick& q) {
  CpuState& s = q.s;
  const Insn& i = q.site.decoded;
  if ((s.rflags & flag::DF) || (s.dr7 & 0xff) || !plain_data(q)) return kQuickDeclined;
  const unsigned size = i.opcode & 1 ? i.operand_size : 1;
  const View view = q.block.mode.view();
  const bool repeated = i.rep || i.repne;
  u64 left = repeated ? s.gpr[RCX] : 1;
  // The block's head has counted one step for the instruction; each piece after the first is one more, and
  // begins where the dispatcher would take what waits. The steps of the block's later parts are not to spend.
  const bool waits = s.nmi_pending || ((s.rflags & flag::IF) && q.context.quick.interrupt_pending);
  const i64 steps_left = waits ? 0 : q.context.remaining() - q.block.reserved(q.site.insn);
  i64 further = -1;
  while (left > 0 && further < steps_left) {
    const Gva to(s.gpr[RDI]), from(s.gpr[RSI]);
    u64 count = elements_in_page(to, size);
    if (kMoves && elements_in_page(from, size) < count) count = elements_in_page(from, size);
    if (count > left) count = left;
    if (count == 0) {
      ElementParts target, source;
      if (!find_element(q, true, to, size, &target)) break;
      u64 value = s.gpr[RAX];
      if constexpr (kMoves) {
        if (!find_element(q, false, from, size, &source)) break;
        copy(reinterpret_cast<u8*>(&value), source.at[0], source.bytes[0]);
        copy(reinterpret_cast<u8*>(&value) + source.bytes[0], source.at[1], source.bytes[1]);
      }
      copy(target.at[0], reinterpret_cast<const u8*>(&value), target.bytes[0]);
      copy(target.at[1], reinterpret_cast<const u8*>(&value) + target.bytes[0], target.bytes[1]);
      count = 1;
    } else {
      const unsigned bytes = static_cast<unsigned>(count) * size;
      u8* const target = writable(q, view, to, bytes);
      const u8* const source = kMoves ? readable(q, view, from, bytes) : nullptr;
      if (!target || (kMoves && !source)) break;
      copy_or_fill<kMoves>(target, source, s.gpr[RAX], count, size);
    }
    s.gpr[RDI] += count * size;
    if constexpr (kMoves) s.gpr[RSI] += count * size;
    if (repeated) s.gpr[RCX] -= count;
    left -= count;
    ++further;
  }
  if (left > 0 && further < 0) return kQuickDeclined;
  if (further > 0) q.context.set_remaining(q.context.remaining() - further);
  if (left == 0) return resume(q);
  // What is left begins anew, as after every piece.
  q.context.set_remaining(q.context.remaining() + uncounted(q) - 1);
  s.rip = next_rip(q) - i.length;
  s.rflags |= flag::RF;
  return kQuickDispatch;
}

}  // namespace deja::quick
