// MASKMOVQ, MASKMOVDQU, VMASKMOVPS/PD, VPMASKMOVD/Q. Elements that the mask leaves out are not accessed, and
// with the AVX forms they never fault; neighbouring chosen elements are one access.
#include <cstring>

#include "semantics/fpu/fpu_helpers.h"
#include "semantics/system.h"

namespace deja {
namespace {

// The chosen bytes of a memory operand of up to 32 bytes. The address size limits where it begins, and not
// how far it reaches.
class MaskedOperand {
 public:
  MaskedOperand(Seg segment, u64 offset) : segment_(segment), offset_(offset) {}

  void choose(unsigned first, unsigned size) { chosen_ |= ((u64{1} << size) - 1) << first; }

  // Calls access(address, first, size) for each run of chosen bytes.
  template <class F>
  void each_run(const Vcpu& cpu, Access access, F&& f) const {
    u64 left = chosen_;
    while (left) {
      const unsigned first = static_cast<unsigned>(__builtin_ctzll(left));
      const unsigned size = static_cast<unsigned>(__builtin_ctzll(~(left >> first)));
      f(linear_address(cpu, segment_, offset_ + first, size, access), first, size);
      left &= ~(((u64{1} << size) - 1) << first);
    }
  }

  void read(Vcpu& cpu, u8* out) const {
    each_run(cpu, Access::read,
             [&](Gva a, unsigned first, unsigned size) { cpu.mmu.read_bytes(a, out + first, size); });
  }

  // What current Intel cores check for MASKMOVQ and MASKMOVDQU whatever the mask (SDM vol. 2B leaves it
  // open): each quadword, from the upper one down.
  void probe_quadwords(Vcpu& cpu, unsigned size) const {
    for (unsigned at = size; at > 0;) {
      at -= 8;
      const Gva address = linear_address(cpu, segment_, offset_ + at, 8, Access::write);
      check_alignment(cpu, address, 8);
      cpu.mmu.probe(address, 8, Access::write);
    }
  }

  void write(Vcpu& cpu, const u8* data) const {
    each_run(cpu, Access::write,
             [&](Gva a, unsigned, unsigned size) { cpu.mmu.probe(a, size, Access::write); });
    each_run(cpu, Access::write,
             [&](Gva a, unsigned first, unsigned size) { cpu.mmu.write_bytes(a, data + first, size); });
  }

 private:
  Seg segment_;
  u64 offset_;
  u64 chosen_ = 0;
};

// MASKMOVQ and MASKMOVDQU address DS:rDI (or an overriding segment), which is no operand of theirs.
MaskedOperand rdi_operand(const Vcpu& cpu, const Insn& insn, const u8* mask, unsigned size) {
  const u64 limit = insn.address_size == 8 ? ~u64{0} : (u64{1} << 8 * insn.address_size) - 1;
  MaskedOperand operand(segment_override(insn, DS), cpu.state.gpr[RDI] & limit);
  for (unsigned i = 0; i < size; ++i)
    if (mask[i] & 0x80) operand.choose(i, 1);
  return operand;
}

void maskmovq(Vcpu& cpu, const Insn& insn) {
  if (cpu.state.cr0 & cr0bit::EM) throw fault_ud();
  if (cpu.state.cr0 & cr0bit::TS) throw fault_nm();
  FpuAccess fpu(cpu);
  check_x87_exception(cpu);
  const auto mm = [&](unsigned i) { return fpu->st[(insn.op[i].reg - x87_top(*fpu)) & 7]; };
  const MaskedOperand operand = rdi_operand(cpu, insn, mm(1), 8);
  u8 data[8];
  std::memcpy(data, mm(0), sizeof data);
  // Like every MMX instruction: TOP becomes 0 and no register is empty (SDM vol. 1 9.5.1); here even if it
  // faults.
  x87_set_top(*fpu, 0);
  fpu->ftw = 0xff;
  fpu.commit();
  operand.probe_quadwords(cpu, 8);
  operand.write(cpu, data);
}

void maskmovdqu(Vcpu& cpu, const Insn& insn) {
  check_vector_available(cpu, insn);
  FpuAccess fpu(cpu);
  const MaskedOperand operand = rdi_operand(cpu, insn, fpu->ymm[insn.op[1].reg], 16);
  operand.probe_quadwords(cpu, 16);
  operand.write(cpu, fpu->ymm[insn.op[0].reg]);
}

template <unsigned element>
void vmaskmov(Vcpu& cpu, const Insn& insn) {
  check_avx_available(cpu);
  FpuAccess fpu(cpu);
  const unsigned width = insn.vex_l ? 32 : 16;
  const u8* mask = fpu->ymm[insn.op[1].reg];
  MaskedOperand operand(static_cast<Seg>(insn.mem.segment), effective_offset(cpu, insn));
  for (unsigned i = 0; i < width; i += element)
    if (mask[i + element - 1] & 0x80) operand.choose(i, element);
  if (insn.op[0].kind == OperandKind::mem) {
    operand.write(cpu, fpu->ymm[insn.op[2].reg]);
    return;
  }
  u8 value[32] = {};
  operand.read(cpu, value);
  std::memcpy(fpu->ymm[insn.op[0].reg], value, 32);
  fpu.commit();
}

}  // namespace

Helper find_masked_move_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
      return maskmovq;
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      return maskmovdqu;
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
      return vmaskmov<4>;
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
      return vmaskmov<8>;
    default:
      return nullptr;
  }
}

}  // namespace deja
