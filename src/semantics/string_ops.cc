// MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, alone and with REP, REPE, REPNE (SDM vol. 2, REP; vol. 1 7.3.9).
//
// One call does one step. A REP is cut into pieces: a piece runs from the current element to the last one
// that lies wholly inside the current page of every memory operand; an element that crosses a page end is a
// piece of its own, and so is each element of INS and OUTS. Segment limits and the wrap of 16- and 32-bit
// offsets end a piece too. All of these are properties of the guest's registers, never of the host
// (docs/determinism.md, rule 1). Between pieces RIP stays on the instruction, which is where interrupts are
// taken.
#include <algorithm>
#include <cstring>

#include "semantics/segments.h"
#include "semantics/system.h"
#include "semantics/vcpu.h"

namespace deja {
namespace {

u64 size_mask(unsigned bytes) { return bytes == 8 ? ~u64{0} : (u64{1} << 8 * bytes) - 1; }

template <class T>
T load(const u8* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
void store(u8* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

// The instruction at work: element size, direction, and the registers it moves.
struct StringInsn {
  Vcpu& cpu;
  unsigned size;     // bytes of an element
  u64 address_mask;  // of RSI, RDI and RCX
  bool down;         // DF
  bool repeated;
  Seg source_segment;

  StringInsn(Vcpu& c, const Insn& insn)
      : cpu(c),
        size(insn.opcode & 1 ? insn.operand_size : 1),
        address_mask(size_mask(insn.address_size)),
        down(c.state.rflags & flag::DF),
        repeated(insn.rep || insn.repne),
        source_segment(segment_override(insn, DS)) {}

  u64 reg(Gpr r) const { return cpu.state.gpr[r] & address_mask; }
  // A 16-bit register keeps its upper part, a 32-bit one is zero-extended.
  void set_reg(Gpr r, u64 value) const {
    u64& to = cpu.state.gpr[r];
    to = address_mask == 0xffff ? (to & ~address_mask) | (value & address_mask) : value & address_mask;
  }
  void advance(Gpr r, u64 elements) const { set_reg(r, reg(r) + (down ? -elements : elements) * size); }
  void count_down(u64 elements) const {
    if (repeated) set_reg(RCX, reg(RCX) - elements);
  }
  // Runs again when a REP has work left. RF is set until its last piece, so that an instruction breakpoint on
  // it hits once, and is seen set by what interrupts it (SDM vol. 3B 17.3.1.1).
  void go_on() const {
    if (!repeated || reg(RCX) == 0) return;
    cpu.next_rip = cpu.state.rip;
    cpu.state.rflags |= flag::RF;
  }
};

// One memory operand of a piece.
struct Range {
  Gva first;     // the current element
  u64 elements;  // how many, from it on, are inside its page, the segment and the offset's range
  bool crosses;  // the current element spans two pages
};

// How many elements from `offset` on stay inside the segment and don't wrap, given that the first one does.
u64 elements_in_segment(const StringInsn& s, Seg segment, u64 offset) {
  const SegmentRegister& r = s.cpu.state.seg[segment];
  const bool flat = s.cpu.state.mode64();
  u64 lowest = 0, highest = s.address_mask;
  if (!flat) {
    if (r.expand_down()) {
      lowest = u64{r.limit} + 1;
      highest = std::min<u64>(highest, r.big() ? 0xffffffff : 0xffff);
    } else {
      highest = std::min<u64>(highest, r.limit);
    }
  }
  // An element that wraps is alone; linear_address() has said whether it may.
  if (offset < lowest || offset > highest || highest - offset < s.size - 1) return 1;
  const u64 further = s.down ? offset - lowest : highest - offset - (s.size - 1);
  return std::min<u64>(further, kPageSize) / s.size + 1;
}

Range make_range(const StringInsn& s, Seg segment, Gpr index, Access access) {
  const u64 offset = s.reg(index);
  const Gva first = linear_address(s.cpu, segment, offset, s.size, access);
  check_alignment(s.cpu, first, s.size);
  const u64 upwards = elements_in_page(first, s.size);
  if (upwards == 0) return {first, 1, true};
  const u64 elements = s.down ? first.offset() / s.size + 1 : upwards;
  return {first, std::min(elements, elements_in_segment(s, segment, offset)), false};
}

// Lowest address of `count` elements.
Gva lowest(const StringInsn& s, const Range& r, u64 count) {
  return s.down ? Gva(r.first.value - (count - 1) * s.size) : r.first;
}

Gva element_address(const StringInsn& s, const Range& r, u64 i) {
  return Gva(s.down ? r.first.value - i * s.size : r.first.value + i * s.size);
}

u64 read_element(const StringInsn& s, Gva address) {
  u64 value = 0;
  s.cpu.mmu.read_bytes(address, &value, s.size);
  return value;
}

void write_element(const StringInsn& s, Gva address, u64 value) {
  s.cpu.mmu.write_bytes(address, &value, s.size);
}

// RFLAGS.TF and data breakpoints trap after each iteration (SDM vol. 3B 17.3.1.2, 17.3.1.4).
bool traps_each_iteration(const CpuState& s) { return (s.rflags & flag::TF) || data_breakpoints_armed(s); }

// How many elements this piece may have by RCX; zero when a REP has nothing to do.
// With 32-bit addresses in 64-bit mode, processors zero-extend RCX and the registers named even if the count
// is zero or the first element faults.
u64 wanted_elements(const StringInsn& s, std::initializer_list<Gpr> extended) {
  if (!s.repeated) return 1;
  if (s.address_mask == 0xffffffff) {
    s.set_reg(RCX, s.reg(RCX));
    for (const Gpr r : extended) s.set_reg(r, s.reg(r));
  }
  return traps_each_iteration(s.cpu.state) ? std::min<u64>(s.reg(RCX), 1) : s.reg(RCX);
}

// Host memory of a piece of `count` elements, from its lowest byte; nullptr as map_read and map_write say. A
// page fault is the current element's.
template <class Map>
auto map_piece(const StringInsn& s, const Range& r, u64 count, Map&& map) {
  try {
    return map(lowest(s, r, count), static_cast<unsigned>(count * s.size));
  } catch (GuestFault& fault) {
    if (fault.vector == kPF) fault.cr2 = r.first.value;
    throw;
  }
}
const u8* map_source(const StringInsn& s, const Range& r, u64 count) {
  return map_piece(s, r, count, [&](Gva at, unsigned bytes) { return s.cpu.mmu.map_read(at, bytes); });
}
u8* map_destination(const StringInsn& s, const Range& r, u64 count) {
  return map_piece(s, r, count, [&](Gva at, unsigned bytes) { return s.cpu.mmu.map_write(at, bytes); });
}

// --- MOVS

// Copies as ascending elements of `size` bytes would, overlaps included: a destination that starts inside the
// source range repeats what lies between the two.
void copy_up(u8* to, const u8* from, u64 bytes, unsigned size) {
  const u64 distance = static_cast<u64>(to - from);
  if (distance >= bytes) {  // `to` below `from`, or apart
    std::memmove(to, from, bytes);
  } else if (distance == 0) {
    return;
  } else if (distance % size == 0) {
    for (u64 done = 0; done < bytes;) {
      const u64 chunk = std::min(bytes - done, distance + done);
      std::memcpy(to + done, from, chunk);
      done += chunk;
    }
  } else {
    for (u64 i = 0; i < bytes; i += size) {
      u64 element;
      std::memcpy(&element, from + i, size);
      std::memcpy(to + i, &element, size);
    }
  }
}

// The same for descending elements; `to` and `from` are the lowest addresses.
void copy_down(u8* to, const u8* from, u64 bytes, unsigned size) {
  const u64 distance = static_cast<u64>(from - to);
  if (distance >= bytes) {
    std::memmove(to, from, bytes);
    return;
  }
  for (u64 i = bytes; i > 0; i -= size) {
    u64 element;
    std::memcpy(&element, from + i - size, size);
    std::memcpy(to + i - size, &element, size);
  }
}

void movs(Vcpu& cpu, const Insn& insn) {
  const StringInsn s(cpu, insn);
  u64 count = wanted_elements(s, {RSI, RDI});
  if (count == 0) return;
  const Range from = make_range(s, s.source_segment, RSI, Access::read);
  const Range to = [&] {
    try {
      return make_range(s, ES, RDI, Access::write);
    } catch (const GuestFault&) {
      cpu.mmu.probe(from.first, s.size, Access::read);
      throw;
    }
  }();
  count = std::min({count, from.elements, to.elements});
  const auto done = [&](u64 elements) {
    s.advance(RSI, elements);
    s.advance(RDI, elements);
    s.count_down(elements);
  };
  const unsigned bytes = static_cast<unsigned>(count * s.size);
  const u8* source = nullptr;
  u8* destination = nullptr;
  if (from.crosses || to.crosses) {
    count = 1;
    cpu.mmu.probe(from.first, s.size, Access::read);
    cpu.mmu.probe(to.first, s.size, Access::write);
  } else {
    source = map_source(s, from, count);
    destination = map_destination(s, to, count);
  }
  if (source && destination) {
    (s.down ? copy_down : copy_up)(destination, source, bytes, s.size);
    done(count);
  } else {
    // A store may change the translation of what follows (page tables), so the registers keep up with each
    // one.
    for (u64 i = 0; i < count; ++i) {
      write_element(s, element_address(s, to, i), read_element(s, element_address(s, from, i)));
      done(1);
    }
  }
  s.go_on();
}

// --- STOS

void fill(u8* to, u64 value, u64 bytes, unsigned size) {
  const u64 pattern = value * (size == 1   ? 0x0101010101010101
                               : size == 2 ? 0x0001000100010001
                               : size == 4 ? 0x100000001
                                           : 1);
  if (pattern == (pattern & 0xff) * 0x0101010101010101) {
    std::memset(to, static_cast<int>(pattern & 0xff), bytes);
    return;
  }
  u64 i = 0;
  for (; i + 8 <= bytes; i += 8) store(to + i, pattern);
  std::memcpy(to + i, &pattern, bytes - i);
}

void stos(Vcpu& cpu, const Insn& insn) {
  const StringInsn s(cpu, insn);
  u64 count = wanted_elements(s, {RDI});
  if (count == 0) return;
  const u64 value = cpu.state.gpr[RAX] & size_mask(s.size);
  const Range to = make_range(s, ES, RDI, Access::write);
  count = std::min(count, to.elements);
  const unsigned bytes = static_cast<unsigned>(count * s.size);
  if (u8* p = to.crosses ? nullptr : map_destination(s, to, count)) {
    fill(p, value, bytes, s.size);
    s.advance(RDI, count);
    s.count_down(count);
  } else {
    for (u64 i = 0; i < count; ++i) {
      write_element(s, element_address(s, to, i), value);
      s.advance(RDI, 1);
      s.count_down(1);
    }
  }
  s.go_on();
}

// --- LODS

void lods(Vcpu& cpu, const Insn& insn) {
  const StringInsn s(cpu, insn);
  u64 count = wanted_elements(s, {});
  if (count == 0) return;
  const Range from = make_range(s, s.source_segment, RSI, Access::read);
  count = std::min(count, from.elements);
  const unsigned bytes = static_cast<unsigned>(count * s.size);
  u64 value = 0;
  if (const u8* p = from.crosses ? nullptr : map_source(s, from, count))
    std::memcpy(&value, s.down ? p : p + bytes - s.size, s.size);
  else
    for (u64 i = 0; i < count; ++i) value = read_element(s, element_address(s, from, i));
  u64& rax = cpu.state.gpr[RAX];
  rax = s.size >= 4 ? value : (rax & ~size_mask(s.size)) | value;
  s.advance(RSI, count);
  s.count_down(count);
  s.go_on();
}

// --- CMPS and SCAS

// Status flags of CMP a, b.
void set_compare_flags(CpuState& state, u64 a, u64 b, unsigned size) {
  const u64 difference = (a - b) & size_mask(size);
  const u64 sign = u64{1} << (8 * size - 1);
  u64 f = 0;
  if (a < b) f |= flag::CF;
  if (!(__builtin_popcountll(difference & 0xff) & 1)) f |= flag::PF;
  if ((a ^ b ^ difference) & 0x10) f |= flag::AF;
  if (difference == 0) f |= flag::ZF;
  if (difference & sign) f |= flag::SF;
  if ((a ^ b) & (a ^ difference) & sign) f |= flag::OF;
  state.rflags = (state.rflags & ~flag::kStatus) | f;
}

// Index of the first of `count` elements whose equality is `stop_when`, or count. a_step is 0 when a is a
// constant.
template <class T>
u64 scan(const u8* a, const u8* b, i64 a_step, i64 b_step, u64 count, bool stop_when) {
  for (u64 i = 0; i < count; ++i) {
    if ((load<T>(a) == load<T>(b)) == stop_when) return i;
    a += a_step;
    b += b_step;
  }
  return count;
}

u64 scan(unsigned size, const u8* a, const u8* b, i64 a_step, i64 b_step, u64 count, bool stop_when) {
  switch (size) {
    case 1:
      return scan<u8>(a, b, a_step, b_step, count, stop_when);
    case 2:
      return scan<u16>(a, b, a_step, b_step, count, stop_when);
    case 4:
      return scan<u32>(a, b, a_step, b_step, count, stop_when);
    default:
      return scan<u64>(a, b, a_step, b_step, count, stop_when);
  }
}

// What CMPS and SCAS share: elements of the piece are compared until the condition of REPE or REPNE ends it.
struct Comparison {
  u64 a = 0, b = 0;    // the last pair
  u64 elements = 0;    // compared
  bool ended = false;  // by the condition
};

// bulk_a and bulk_b: the current elements in host memory, or null; get(i): element i's pair, one access each.
template <class Get>
Comparison compare(const StringInsn& s, const Insn& insn, u64 count, const u8* bulk_a, i64 a_step,
                   const u8* bulk_b, i64 b_step, Get&& get) {
  Comparison c;
  const bool stop_when_equal = insn.repne;
  if (bulk_a && bulk_b) {
    const u64 at = scan(s.size, bulk_a, bulk_b, a_step, b_step, count, stop_when_equal);
    c.ended = at < count;
    c.elements = c.ended ? at + 1 : count;
    const i64 last = static_cast<i64>(c.elements - 1);
    std::memcpy(&c.a, bulk_a + last * a_step, s.size);
    std::memcpy(&c.b, bulk_b + last * b_step, s.size);
    return c;
  }
  while (c.elements < count && !c.ended) {
    get(c.elements++, &c.a, &c.b);
    c.ended = (c.a == c.b) == stop_when_equal;
  }
  return c;
}

void finish_comparison(const StringInsn& s, const Comparison& c) {
  s.count_down(c.elements);
  const bool last = !s.repeated || c.ended || s.reg(RCX) == 0;
  // What a fault or trap after an earlier piece shows are the flags from before the instruction (SDM vol. 2B,
  // REP), so only the last piece sets them.
  if (last) set_compare_flags(s.cpu.state, c.a, c.b, s.size);
  if (!last) s.go_on();
}

// The current (first) element of a mapped piece.
const u8* current(const StringInsn& s, const u8* lowest_byte, u64 count) {
  if (!lowest_byte) return nullptr;
  return s.down ? lowest_byte + (count - 1) * s.size : lowest_byte;
}

void cmps(Vcpu& cpu, const Insn& insn) {
  const StringInsn s(cpu, insn);
  u64 count = wanted_elements(s, {});
  if (count == 0) return;
  // RDI comes first, as current Intel cores do it.
  const Range b = make_range(s, ES, RDI, Access::read);
  const Range a = [&] {
    try {
      return make_range(s, s.source_segment, RSI, Access::read);
    } catch (const GuestFault&) {
      cpu.mmu.probe(b.first, s.size, Access::read);
      throw;
    }
  }();
  count = std::min({count, a.elements, b.elements});
  const u8 *bulk_a = nullptr, *bulk_b = nullptr;
  if (!a.crosses && !b.crosses) {
    bulk_b = current(s, map_source(s, b, count), count);
    bulk_a = current(s, map_source(s, a, count), count);
  } else {
    cpu.mmu.probe(b.first, s.size, Access::read);
    cpu.mmu.probe(a.first, s.size, Access::read);
  }
  const i64 step = s.down ? -static_cast<i64>(s.size) : static_cast<i64>(s.size);
  const Comparison c = compare(s, insn, count, bulk_a, step, bulk_b, step, [&](u64 i, u64* x, u64* y) {
    *x = read_element(s, element_address(s, a, i));
    *y = read_element(s, element_address(s, b, i));
  });
  s.advance(RSI, c.elements);
  s.advance(RDI, c.elements);
  finish_comparison(s, c);
}

void scas(Vcpu& cpu, const Insn& insn) {
  const StringInsn s(cpu, insn);
  u64 count = wanted_elements(s, {});
  if (count == 0) return;
  const u64 accumulator = cpu.state.gpr[RAX] & size_mask(s.size);
  const Range b = make_range(s, ES, RDI, Access::read);
  count = std::min(count, b.elements);
  const u8* bulk = nullptr;
  if (!b.crosses) bulk = current(s, map_source(s, b, count), count);
  const i64 step = s.down ? -static_cast<i64>(s.size) : static_cast<i64>(s.size);
  const Comparison c = compare(s, insn, count, reinterpret_cast<const u8*>(&accumulator), 0, bulk, step,
                               [&](u64 i, u64* x, u64* y) {
                                 *x = accumulator;
                                 *y = read_element(s, element_address(s, b, i));
                               });
  s.advance(RDI, c.elements);
  finish_comparison(s, c);
}

// --- INS and OUTS: an element is a piece.

StringInsn port_insn(Vcpu& cpu, const Insn& insn) {
  StringInsn s(cpu, insn);
  s.size = std::min(s.size, 4u);
  return s;
}

void ins(Vcpu& cpu, const Insn& insn) {
  const StringInsn s = port_insn(cpu, insn);
  if (wanted_elements(s, {RDI}) == 0) return;
  const u16 port = static_cast<u16>(cpu.state.gpr[RDX]);
  check_io_permission(cpu, port, s.size);
  const Range to = make_range(s, ES, RDI, Access::write);
  // The port is read only once the store is known to succeed.
  cpu.mmu.probe(to.first, s.size, Access::write);
  note_io_breakpoints(cpu.state, port, s.size);
  write_element(s, to.first, cpu.platform.port_read(port, s.size));
  s.advance(RDI, 1);
  s.count_down(1);
  s.go_on();
}

void outs(Vcpu& cpu, const Insn& insn) {
  const StringInsn s = port_insn(cpu, insn);
  if (wanted_elements(s, {RSI}) == 0) return;
  const u16 port = static_cast<u16>(cpu.state.gpr[RDX]);
  check_io_permission(cpu, port, s.size);
  const Range from = make_range(s, s.source_segment, RSI, Access::read);
  const u32 value = static_cast<u32>(read_element(s, from.first));
  note_io_breakpoints(cpu.state, port, s.size);
  cpu.platform.port_write(port, value, s.size);
  s.advance(RSI, 1);
  s.count_down(1);
  s.go_on();
}

}  // namespace

Helper find_string_helper(const Insn& insn) {
  // By opcode: MOVSD and CMPSD are also names of SSE2 instructions.
  if (insn.map != ZYDIS_OPCODE_MAP_DEFAULT || insn.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
    return nullptr;
  switch (insn.opcode & 0xfe) {
    case 0x6c:
      return ins;
    case 0x6e:
      return outs;
    case 0xa4:
      return movs;
    case 0xa6:
      return cmps;
    case 0xaa:
      return stos;
    case 0xac:
      return lods;
    case 0xae:
      return scas;
    default:
      return nullptr;
  }
}

}  // namespace deja
