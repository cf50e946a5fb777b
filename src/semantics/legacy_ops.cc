// Unprivileged instructions that are rare in hot code (SDM vol. 2). Status flags that the manual leaves
// undefined are cleared, always and everywhere (docs/undefined-flags.md).
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {
namespace {

u8 al(const CpuState& s) { return static_cast<u8>(s.gpr[RAX]); }
u8 ah(const CpuState& s) { return static_cast<u8>(s.gpr[RAX] >> 8); }
void set_al(CpuState& s, u8 v) { s.gpr[RAX] = (s.gpr[RAX] & ~u64{0xff}) | v; }
void set_ax(CpuState& s, u16 v) { s.gpr[RAX] = (s.gpr[RAX] & ~u64{0xffff}) | v; }

void set_status(CpuState& s, u64 value) { s.rflags = (s.rflags & ~flag::kStatus) | value; }

// SF, ZF and PF of a byte.
u64 result_flags(u8 v) {
  return (v & 0x80 ? flag::SF : 0) | (v == 0 ? flag::ZF : 0) | (__builtin_parity(v) ? 0 : flag::PF);
}

// AAA and AAS; OF, SF, ZF, PF undefined: 0.
void ascii_adjust(CpuState& s, int sign) {
  u16 ax = static_cast<u16>(s.gpr[RAX]);
  const bool adjust = (ax & 15) > 9 || (s.rflags & flag::AF);
  if (adjust) ax = static_cast<u16>(ax + sign * 0x106);
  set_ax(s, ax & 0xff0f);
  set_status(s, adjust ? flag::AF | flag::CF : 0);
}

void aaa(Vcpu& cpu, const Insn&) { ascii_adjust(cpu.state, 1); }
void aas(Vcpu& cpu, const Insn&) { ascii_adjust(cpu.state, -1); }

// OF, AF, CF undefined: 0.
void aam(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const u8 base = static_cast<u8>(insn.imm);
  if (base == 0) throw GuestFault{kDE};
  const u8 value = al(s);
  set_ax(s, static_cast<u16>(value / base << 8 | value % base));
  set_status(s, result_flags(al(s)));
}

void aad(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  set_ax(s, static_cast<u8>(al(s) + ah(s) * static_cast<u8>(insn.imm)));
  set_status(s, result_flags(al(s)));
}

// DAA and DAS; OF undefined: 0.
void decimal_adjust(CpuState& s, int sign) {
  const u8 old = al(s);
  const bool old_carry = s.rflags & flag::CF;
  u8 value = old;
  u64 status = 0;
  if ((old & 15) > 9 || (s.rflags & flag::AF)) {
    // DAS: a borrow out of this step sets CF as well.
    if (sign < 0 && (old_carry || old < 6)) status |= flag::CF;
    value = static_cast<u8>(value + sign * 6);
    status |= flag::AF;
  }
  if (old > 0x99 || old_carry) {
    value = static_cast<u8>(value + sign * 0x60);
    status |= flag::CF;
  }
  set_al(s, value);
  set_status(s, status | result_flags(value));
}

void daa(Vcpu& cpu, const Insn&) { decimal_adjust(cpu.state, 1); }
void das(Vcpu& cpu, const Insn&) { decimal_adjust(cpu.state, -1); }

void salc(Vcpu& cpu, const Insn&) { set_al(cpu.state, cpu.state.rflags & flag::CF ? 0xff : 0); }

// BSWAP of a 16-bit register is undefined: 0, as on Intel cores (docs/undefined-flags.md).
void bswap16(Vcpu& cpu, const Insn& insn) { write_gpr(cpu.state, insn.op[0], 0); }

void lahf(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  const u64 flags = (s.rflags & (flag::kStatus & ~flag::OF)) | flag::kReserved1;
  s.gpr[RAX] = (s.gpr[RAX] & ~u64{0xff00}) | flags << 8;
}

void sahf(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  constexpr u64 kLoaded = flag::kStatus & ~flag::OF;
  s.rflags = (s.rflags & ~kLoaded) | (ah(s) & kLoaded);
}

void bound(Vcpu& cpu, const Insn& insn) {
  const unsigned size = insn.op[0].size;
  const Gva address = operand_address(cpu, insn, size * 2, Access::read);
  u64 pair = 0;
  cpu.mmu.read_bytes(address, &pair, size * 2);
  const auto extend = [&](u64 v) { return size == 2 ? i64{static_cast<i16>(v)} : i64{static_cast<i32>(v)}; };
  const i64 index = extend(read_gpr(cpu.state, insn.op[0]));
  if (index < extend(pair) || index > extend(pair >> (size * 8))) throw GuestFault{kBR};
}

void xlat(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  u64 offset = s.gpr[RBX] + al(s);
  if (insn.address_size == 2) offset = static_cast<u16>(offset);
  if (insn.address_size == 4) offset = low32(offset);
  const Gva address = linear_address(cpu, segment_override(insn, DS), offset, 1, Access::read);
  set_al(s, cpu.mmu.read<u8>(address));
}

void enter(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const unsigned size = insn.operand_size, width = stack_width(s);
  const u64 locals = static_cast<u16>(insn.imm);
  const unsigned level = insn.imm2 & 31;
  const auto truncate = [](u64 v, unsigned bytes) {
    return bytes == 8 ? v : bytes == 4 ? low32(v) : static_cast<u16>(v);
  };
  // Pushed values reach memory one by one, as on hardware: a display that overlaps them is copied as they
  // make it, and a fault leaves those before it in memory, below a stack pointer that has not moved.
  u64 rsp = truncate(s.gpr[RSP], width);
  const auto push = [&](u64 value) {
    const u64 at = truncate(rsp - size, width);
    const Gva address = linear_address(cpu, SS, at, size, Access::write);
    check_alignment(cpu, address, size);
    cpu.mmu.write_bytes(address, &value, size);
    rsp = at;
  };
  push(s.gpr[RBP]);
  // What the stack pointer would be now: all of ESP, though a 16-bit stack moves SP alone.
  const u64 frame = width == 2 ? (s.gpr[RSP] & ~u64{0xffff}) | rsp : rsp;
  if (level > 0) {
    u64 display = s.gpr[RBP];
    for (unsigned i = 1; i < level; ++i) {
      display = truncate(display - size, width);
      const Gva address = linear_address(cpu, SS, display, size, Access::read);
      check_alignment(cpu, address, size);
      u64 pointer = 0;
      cpu.mmu.read_bytes(address, &pointer, size);
      push(pointer);
    }
    push(frame);
  }
  const u64 top = truncate(rsp - locals, width);
  // The new top of the stack must be writable, though nothing is written there.
  const Gva top_address = linear_address(cpu, SS, top, size, Access::write);
  check_alignment(cpu, top_address, size);
  cpu.mmu.probe(top_address, size, Access::write);
  // With 16-bit operands in 64-bit mode the SDM's operation writes RBP, and CPUs write BP.
  write_gpr(s, Operand{.kind = OperandKind::gpr, .size = static_cast<u8>(size), .reg = RBP}, frame);
  set_stack_pointer(s, width, top);
}

void pusha(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  StackWriter stack(cpu);
  for (unsigned i = 0; i < 8; ++i) stack.push(s.gpr[i], insn.operand_size);
  stack.commit();
  set_stack_pointer(s, stack_width(s), stack.rsp());
}

void popa(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  StackReader stack(cpu);
  u64 values[8];
  for (unsigned i = 8; i-- > 0;) values[i] = stack.pop(insn.operand_size);
  for (unsigned i = 0; i < 8; ++i)
    if (i != RSP)
      write_gpr(s, Operand{.kind = OperandKind::gpr, .size = insn.operand_size, .reg = static_cast<u8>(i)},
                values[i]);
  stack.commit();
}

// The write happens even when the comparison fails (it then writes back what was read), so that the
// destination must be writable.
void cmpxchg8b(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const Gva address = operand_address(cpu, insn, 8, Access::write);
  check_alignment(cpu, address, 8);
  cpu.mmu.probe(address, 8, Access::write);
  const u64 old = cpu.mmu.read<u64>(address);
  const bool equal = old == (low32(s.gpr[RAX]) | s.gpr[RDX] << 32);
  cpu.mmu.write<u64>(address, equal ? low32(s.gpr[RBX]) | s.gpr[RCX] << 32 : old);
  if (!equal) {
    s.gpr[RAX] = low32(old);
    s.gpr[RDX] = old >> 32;
  }
  s.rflags = (s.rflags & ~flag::ZF) | (equal ? flag::ZF : 0);
}

void cmpxchg16b(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const Gva address = operand_address(cpu, insn, 16, Access::write);
  if (address.value & 15) throw fault_gp();
  cpu.mmu.probe(address, 16, Access::write);
  u64 value[2];
  cpu.mmu.read_bytes(address, value, sizeof value);
  compare_exchange16(s, value);
  cpu.mmu.write_bytes(address, value, sizeof value);
}

}  // namespace

Helper find_legacy_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_AAA:
      return aaa;
    case ZYDIS_MNEMONIC_AAS:
      return aas;
    case ZYDIS_MNEMONIC_AAM:
      return aam;
    case ZYDIS_MNEMONIC_AAD:
      return aad;
    case ZYDIS_MNEMONIC_DAA:
      return daa;
    case ZYDIS_MNEMONIC_DAS:
      return das;
    case ZYDIS_MNEMONIC_SALC:
      return salc;
    case ZYDIS_MNEMONIC_BSWAP:
      return insn.operand_size == 2 ? bswap16 : nullptr;
    case ZYDIS_MNEMONIC_LAHF:
      return lahf;
    case ZYDIS_MNEMONIC_SAHF:
      return sahf;
    case ZYDIS_MNEMONIC_BOUND:
      return bound;
    case ZYDIS_MNEMONIC_XLAT:
      return xlat;
    case ZYDIS_MNEMONIC_ENTER:
      return enter;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
      return pusha;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
      return popa;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
      return cmpxchg8b;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      return cmpxchg16b;
    default:
      return nullptr;
  }
}

}  // namespace deja
