// RCPPS, RCPSS, RSQRTPS, RSQRTSS and their VEX forms. The manual bounds only the relative error (1.5 *
// 2^-12), and each maker has its own tables; here the one result is the exact value rounded to nearest.
// Integer arithmetic only.
#include <cstring>

#include "semantics/fpu/fpu_helpers.h"
#include "semantics/system.h"

namespace deja {
namespace {

constexpr u32 kSign = 0x80000000, kInfinity = 0x7f800000, kQuiet = 0x00400000, kDefaultNan = 0xffc00000;
constexpr u32 kFraction = 0x007fffff, kImplicitBit = 0x00800000;

// Denormals count as zero; a result that would be one is flushed to zero.
u32 reciprocal(u32 x) {
  const u32 sign = x & kSign;
  const u32 magnitude = x & ~kSign;
  if (magnitude > kInfinity) return x | kQuiet;
  if (magnitude == kInfinity) return sign;
  const int exponent = static_cast<int>(magnitude >> 23);
  if (exponent == 0) return sign | kInfinity;
  const u64 significand = (magnitude & kFraction) | kImplicitBit;  // 1.0 is 2^23
  // 2^47 / significand lies in (2^23, 2^24], is 2^24 only for 1.0, and is never a tie.
  const u64 quotient = ((u64{1} << 47) + significand / 2) / significand;
  const bool one = quotient >> 24;
  const int result_exponent = (one ? 254 : 253) - exponent;
  if (result_exponent <= 0) return sign;
  return sign | static_cast<u32>(result_exponent) << 23 | (one ? 0 : static_cast<u32>(quotient) & kFraction);
}

u64 integer_square_root(u128 x) {
  u64 root = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const u64 trial = root | u64{1} << bit;
    if (u128{trial} * trial <= x) root = trial;
  }
  return root;
}

u32 reciprocal_square_root(u32 x) {
  const u32 sign = x & kSign;
  const u32 magnitude = x & ~kSign;
  if (magnitude > kInfinity) return x | kQuiet;
  if (magnitude >> 23 == 0) return sign | kInfinity;
  if (sign) return kDefaultNan;
  if (magnitude == kInfinity) return 0;
  int exponent = static_cast<int>(magnitude >> 23) - 127;
  u64 significand = (magnitude & kFraction) | kImplicitBit;
  if (exponent & 1) {
    significand <<= 1;
    --exponent;
  }
  // significand / 2^23 is in [1, 4); its inverse root, as a multiple of 2^-24, carried 20 bits further and
  // rounded.
  const u64 root = integer_square_root((u128{1} << (71 + 40)) / significand);
  const u64 rounded = (root + (1 << 19)) >> 20;
  const bool one = rounded >> 24;
  const u32 result_exponent = static_cast<u32>((one ? 127 : 126) - exponent / 2);
  return result_exponent << 23 | (one ? 0 : static_cast<u32>(rounded) & kFraction);
}

template <u32 (*function)(u32)>
void packed(Vcpu& cpu, const Insn& insn) {
  check_vector_available(cpu, insn);
  const bool vex = insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  const unsigned width = vex && insn.vex_l ? 32 : 16;
  FpuAccess fpu(cpu);
  u32 elements[8];
  if (insn.op[1].kind == OperandKind::mem) {
    const Gva address = operand_address(cpu, insn, width, Access::read);
    if (!vex && address.value & 15) throw fault_gp();
    cpu.mmu.read_bytes(address, elements, width);
  } else {
    std::memcpy(elements, fpu->ymm[insn.op[1].reg], width);
  }
  for (unsigned i = 0; i < width / 4; ++i) elements[i] = function(elements[i]);
  u8* const dest = fpu->ymm[insn.op[0].reg];
  std::memcpy(dest, elements, width);
  if (vex) std::memset(dest + width, 0, 32 - width);
  fpu.commit();
}

template <u32 (*function)(u32)>
void scalar(Vcpu& cpu, const Insn& insn) {
  check_vector_available(cpu, insn);
  const bool vex = insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  FpuAccess fpu(cpu);
  const Operand& source = insn.op[insn.operand_count - 1];
  u32 element;
  if (source.kind == OperandKind::mem) {
    const Gva address = operand_address(cpu, insn, 4, Access::read);
    check_alignment(cpu, address, 4);
    element = cpu.mmu.read<u32>(address);
  } else {
    std::memcpy(&element, fpu->ymm[source.reg], 4);
  }
  element = function(element);
  u8* const dest = fpu->ymm[insn.op[0].reg];
  if (vex) {
    std::memmove(dest, fpu->ymm[insn.op[1].reg], 16);
    std::memset(dest + 16, 0, 16);
  }
  std::memcpy(dest, &element, 4);
  fpu.commit();
}

}  // namespace

Helper find_approximation_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_VRCPPS:
      return packed<reciprocal>;
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_VRSQRTPS:
      return packed<reciprocal_square_root>;
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_VRCPSS:
      return scalar<reciprocal>;
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_VRSQRTSS:
      return scalar<reciprocal_square_root>;
    default:
      return nullptr;
  }
}

}  // namespace deja
