// FNSTENV, FLDENV, FNSAVE, FRSTOR (SDM vol. 1 8.1.10 and figures 8-9 to 8-12).
//
// In software because the hardware's would store the host's instruction and data pointers. These are zero
// here, so the protected and the real-address layouts, which differ only in how they split the pointers,
// coincide.
#include <cstring>

#include "semantics/fpu/fpu_helpers.h"
#include "semantics/system.h"

namespace deja {
namespace {

struct Environment {
  u8 bytes[28 + 80];  // the largest image: 32-bit environment and eight registers
  unsigned size;      // of the environment, 14 or 28
};

unsigned environment_size(const Insn& insn) { return insn.operand_size == 2 ? 14 : 28; }

// Images of the 16-bit format count as 2-byte operands for alignment checks, 32-bit ones as 4-byte operands
// (SDM vol. 3A table 6-7).
Gva image_address(Vcpu& cpu, const Insn& insn, unsigned size, Access access) {
  const Gva address = operand_address(cpu, insn, size, access);
  check_alignment(cpu, address, insn.operand_size == 2 ? 2 : 4);
  return address;
}

Environment make_environment(const FpuState& f, unsigned size) {
  Environment e{};
  e.size = size;
  const u16 words[3] = {f.fcw, f.fsw, x87_full_tag_word(f)};
  if (size == 14) {
    std::memcpy(e.bytes, words, sizeof words);
    return e;
  }
  // Reserved upper halves are stored as ones, the selector of the data pointer's too.
  std::memset(e.bytes, 0xff, 12);
  for (unsigned i = 0; i < 3; ++i) std::memcpy(e.bytes + 4 * i, &words[i], 2);
  std::memset(e.bytes + 26, 0xff, 2);
  return e;
}

void take_environment(FpuState& f, const u8* bytes, unsigned size) {
  u16 words[3];
  for (unsigned i = 0; i < 3; ++i) std::memcpy(&words[i], bytes + i * (size == 14 ? 2 : 4), 2);
  x87_set_top(f, (words[1] >> fsw::kTopShift) & 7);
  f.fcw = words[0];
  f.fsw = words[1];
  f.ftw = x87_abridged_tag_word(words[2]);
  x87_normalize(f);
}

void fnstenv(Vcpu& cpu, const Insn& insn) {
  check_x87_available(cpu);
  FpuAccess fpu(cpu);
  const Environment e = make_environment(*fpu, environment_size(insn));
  cpu.mmu.write_bytes(image_address(cpu, insn, e.size, Access::write), e.bytes, e.size);
  fpu->fcw |= fsw::kExceptions;
  x87_normalize(*fpu);
  fpu.commit();
}

void fldenv(Vcpu& cpu, const Insn& insn) {
  check_x87_available(cpu);
  FpuAccess fpu(cpu);
  check_x87_exception(cpu);
  u8 bytes[28];
  const unsigned size = environment_size(insn);
  cpu.mmu.read_bytes(image_address(cpu, insn, size, Access::read), bytes, size);
  take_environment(*fpu, bytes, size);
  fpu.commit();
}

void fnsave(Vcpu& cpu, const Insn& insn) {
  check_x87_available(cpu);
  FpuAccess fpu(cpu);
  Environment e = make_environment(*fpu, environment_size(insn));
  for (unsigned i = 0; i < 8; ++i) std::memcpy(e.bytes + e.size + 10 * i, fpu->st[i], 10);
  const unsigned size = e.size + 80;
  cpu.mmu.write_bytes(image_address(cpu, insn, size, Access::write), e.bytes, size);
  x87_init(*fpu);
  fpu.commit();
}

void frstor(Vcpu& cpu, const Insn& insn) {
  check_x87_available(cpu);
  FpuAccess fpu(cpu);
  check_x87_exception(cpu);
  u8 bytes[28 + 80];
  const unsigned environment = environment_size(insn);
  const unsigned size = environment + 80;
  cpu.mmu.read_bytes(image_address(cpu, insn, size, Access::read), bytes, size);
  take_environment(*fpu, bytes, environment);
  for (unsigned i = 0; i < 8; ++i) std::memcpy(fpu->st[i], bytes + environment + 10 * i, 10);
  fpu.commit();
}

}  // namespace

Helper find_x87_environment_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
      return fnstenv;
    case ZYDIS_MNEMONIC_FLDENV:
      return fldenv;
    case ZYDIS_MNEMONIC_FNSAVE:
      return fnsave;
    case ZYDIS_MNEMONIC_FRSTOR:
      return frstor;
    default:
      return nullptr;
  }
}

}  // namespace deja
