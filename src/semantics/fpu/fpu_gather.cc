// The AVX2 gathers (SDM vol. 2, VGATHERDPD and following). Elements are loaded from the lowest up; each one
// done clears its mask element, so that a fault leaves a state from which the instruction goes on when it is
// restarted.
#include <cstring>

#include "semantics/fpu/fpu_helpers.h"
#include "semantics/system.h"

namespace deja {
namespace {

struct Shape {
  unsigned index_size, data_size;  // bytes of an element
};

template <Shape shape>
void gather(Vcpu& cpu, const Insn& insn) {
  check_avx_available(cpu);
  const unsigned dest = insn.op[0].reg, mask = insn.op[2].reg, index = static_cast<u8>(insn.mem.index);
  if (dest == mask || dest == index || mask == index) throw fault_ud();
  FpuAccess fpu(cpu);
  constexpr unsigned kIndex = shape.index_size, kData = shape.data_size;
  const unsigned count = (insn.vex_l ? 32 : 16) / (kIndex > kData ? kIndex : kData);
  u8* const mask_bytes = fpu->ymm[mask];

  // The sign bit of each element of the whole vector, used or not, spreads over it before the first load, as
  // hardware shows at a fault.
  const unsigned vector = insn.vex_l ? 32 : 16;
  for (unsigned at = 0; at < vector; at += kData)
    std::memset(mask_bytes + at, mask_bytes[at + kData - 1] & 0x80 ? 0xff : 0, kData);
  std::memset(mask_bytes + vector, 0, 32 - vector);

  const MemOperand& m = insn.mem;
  const u64 base = (m.base >= 0 ? cpu.state.gpr[m.base] : 0) + static_cast<u64>(m.disp);
  bool loaded = false;
  try {
    for (unsigned i = 0; i < count; ++i) {
      if (!mask_bytes[i * kData]) continue;
      u64 scaled = 0;
      std::memcpy(&scaled, fpu->ymm[index] + i * kIndex, kIndex);
      if constexpr (kIndex == 4) scaled = sign_extend(scaled, 32);
      u64 offset = base + scaled * m.scale;
      if (m.address_size == 4) offset = static_cast<u32>(offset);
      const Gva address = linear_address(cpu, static_cast<Seg>(m.segment), offset, kData, Access::read);
      u8 data[kData];
      cpu.mmu.read_bytes(address, data, kData);
      std::memcpy(fpu->ymm[dest] + i * kData, data, kData);
      std::memset(mask_bytes + i * kData, 0, kData);
      loaded = true;
    }
  } catch (const GuestFault&) {
    // As current Intel cores show it: an element that was loaded zeroes the upper half of the destination of
    // a 128-bit form.
    if (loaded && vector == 16) std::memset(fpu->ymm[dest] + 16, 0, 16);
    fpu.commit();
    // A trap that is due after the elements loaded so far is delivered in place of the fault (SDM vol. 2C,
    // VGATHERDPS).
    constexpr u64 kSingleStep = 1 << 14;
    if (loaded && (cpu.state.rflags & flag::TF)) {
      GuestFault trap{kDB};
      trap.dr6 = kSingleStep;
      throw trap;
    }
    throw;
  }
  std::memset(fpu->ymm[dest] + count * kData, 0, 32 - count * kData);
  std::memset(mask_bytes + count * kData, 0, 32 - count * kData);
  fpu.commit();
}

}  // namespace

Helper find_gather_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
      return gather<Shape{4, 4}>;
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ:
      return gather<Shape{4, 8}>;
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD:
      return gather<Shape{8, 4}>;
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ:
      return gather<Shape{8, 8}>;
    default:
      return nullptr;
  }
}

}  // namespace deja
