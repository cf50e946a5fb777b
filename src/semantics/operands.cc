// Generic access to decoded operands, segmentation included (SDM vol. 3A 5.3, 5.4, vol. 1 3.7).
#include "base/check.h"
#include "semantics/stack_frame.h"
#include "semantics/system.h"

namespace deja {

u64 read_gpr(const CpuState& s, const Operand& op) {
  const u64 value = s.gpr[op.reg];
  switch (op.size) {
    case 1:
      return op.high ? static_cast<u8>(value >> 8) : static_cast<u8>(value);
    case 2:
      return static_cast<u16>(value);
    case 4:
      return static_cast<u32>(value);
    default:
      return value;
  }
}

void write_gpr(CpuState& s, const Operand& op, u64 value) {
  u64& reg = s.gpr[op.reg];
  switch (op.size) {
    case 1:
      reg = op.high ? (reg & ~u64{0xff00}) | static_cast<u64>(static_cast<u8>(value)) << 8
                    : (reg & ~u64{0xff}) | static_cast<u8>(value);
      break;
    case 2:
      reg = (reg & ~u64{0xffff}) | static_cast<u16>(value);
      break;
    case 4:
      reg = static_cast<u32>(value);
      break;
    default:
      reg = value;
      break;
  }
}

u64 effective_offset(const Vcpu& cpu, const Insn& insn) {
  return effective_offset(cpu.state.gpr, cpu.state.rip, insn);
}

Gva linear_address(const Vcpu& cpu, Seg segment, u64 offset, unsigned size, Access access) {
  const CpuState& s = cpu.state;
  const SegmentRegister& r = s.seg[segment];
  const auto violation = [&] { return segment == SS ? fault_ss() : fault_gp(); };
  if (s.mode64()) {
    const u64 linear = offset + (segment >= FS ? r.base : 0);
    if (!is_canonical(s, linear, size)) throw violation();
    return Gva(linear);
  }
  if (s.protected_mode() && !s.v8086()) {
    if (!r.present()) throw violation();
    if (access == Access::write ? !r.writable_data() : access == Access::read && !r.readable())
      throw violation();
  }
  if (!within_limit(r, offset, size)) throw violation();
  return Gva(static_cast<u32>(r.base + offset));
}

void check_alignment(const Vcpu& cpu, Gva address, unsigned size) {
  const CpuState& s = cpu.state;
  if (!(address.value & (size - 1)) || !(s.rflags & flag::AC) || !(s.cr0 & cr0bit::AM) || s.cpl() != 3)
    return;
  throw fault_ac();
}

Gva operand_address(const Vcpu& cpu, const Insn& insn, unsigned size, Access access) {
  return linear_address(cpu, static_cast<Seg>(insn.mem.segment), effective_offset(cpu, insn), size, access);
}

Gva aligned_operand_address(const Vcpu& cpu, const Insn& insn, unsigned size, Access access) {
  const bool mode64 = cpu.state.mode64();
  const Gva address = operand_address(cpu, insn, mode64 ? 1 : size, access);
  check_alignment(cpu, address, size);
  return mode64 ? operand_address(cpu, insn, size, access) : address;
}

u64 read_operand(Vcpu& cpu, const Insn& insn, unsigned index) {
  const Operand& op = insn.op[index];
  switch (op.kind) {
    case OperandKind::gpr:
      return read_gpr(cpu.state, op);
    case OperandKind::seg:
      return cpu.state.seg[op.reg].selector;
    case OperandKind::imm:
      return static_cast<u64>(insn.imm);
    case OperandKind::mem: {
      const Gva address = aligned_operand_address(cpu, insn, op.size, Access::read);
      u64 value = 0;
      DEJA_CHECK(op.size <= sizeof value);
      cpu.mmu.read_bytes(address, &value, op.size);
      return value;
    }
    default:
      DEJA_UNREACHABLE("operand kind {}", static_cast<int>(op.kind));
  }
}

void write_operand(Vcpu& cpu, const Insn& insn, unsigned index, u64 value) {
  const Operand& op = insn.op[index];
  if (op.kind == OperandKind::gpr) return write_gpr(cpu.state, op, value);
  DEJA_CHECK(op.kind == OperandKind::mem && op.size <= sizeof value);
  const Gva address = aligned_operand_address(cpu, insn, op.size, Access::write);
  cpu.mmu.write_bytes(address, &value, op.size);
}

void push_value(Vcpu& cpu, u64 value, unsigned size) {
  StackWriter stack(cpu);
  stack.push(value, size);
  stack.commit();
  set_stack_pointer(cpu.state, stack_width(cpu.state), stack.rsp());
}

u64 pop_value(Vcpu& cpu, unsigned size) {
  StackReader stack(cpu);
  const u64 value = stack.pop(size);
  stack.commit();
  return value;
}

Seg segment_override(const Insn& insn, Seg otherwise) {
  const bool flat = insn.code_size == CodeSize::bits64;
  for (unsigned i = 0; i < insn.opcode_offset; ++i) {
    switch (insn.bytes[i]) {
      case 0x26:
        if (!flat) otherwise = ES;
        break;
      case 0x2e:
        if (!flat) otherwise = CS;
        break;
      case 0x36:
        if (!flat) otherwise = SS;
        break;
      case 0x3e:
        if (!flat) otherwise = DS;
        break;
      case 0x64:
        otherwise = FS;
        break;
      case 0x65:
        otherwise = GS;
        break;
      default:
        break;
    }
  }
  return otherwise;
}

}  // namespace deja
