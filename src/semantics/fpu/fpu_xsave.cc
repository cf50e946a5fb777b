// FXSAVE, FXRSTOR, XSAVE, XRSTOR and MXCSR (SDM vol. 1 10.5, chapter 13).
//
// XSAVE takes every component as in use (XINUSE = XCR0): which ones the hardware finds in their initial
// configuration differs between makers, and so would XSTATE_BV and the bytes in memory.
#include <cstring>

#include "semantics/fpu/fpu_helpers.h"
#include "semantics/system.h"

namespace deja {
namespace {

constexpr unsigned kXmmOffset = 160;
constexpr unsigned kHeaderOffset = 512;
constexpr unsigned kHeaderSize = 64;
constexpr unsigned kAvxOffset = 576;
constexpr unsigned kXsaveSize = 832;
constexpr u64 kX87 = 1, kSse = 2, kAvx = 4;  // state components in XCR0, XSTATE_BV

// Outside 64-bit mode only the first eight vector registers are stored and loaded.
unsigned vector_count(const Vcpu& cpu) { return cpu.state.mode64() ? 16 : 8; }

void check_mxcsr(u32 mxcsr) {
  if (mxcsr & ~kMxcsrMask) throw fault_gp();
}

u32 read_u32(const u8* p) {
  u32 v;
  std::memcpy(&v, p, 4);
  return v;
}

// Bytes of the save area that one instruction reads or writes.
struct Piece {
  unsigned offset, size;
};
struct Pieces {
  Piece list[6];
  unsigned count = 0;
  void add(unsigned offset, unsigned size) { list[count++] = {offset, size}; }
};

void store(Vcpu& cpu, Gva area, const u8* image, const Pieces& pieces) {
  for (unsigned i = 0; i < pieces.count; ++i)
    cpu.mmu.probe(area + pieces.list[i].offset, pieces.list[i].size, Access::write);
  for (unsigned i = 0; i < pieces.count; ++i) {
    const Piece& p = pieces.list[i];
    cpu.mmu.write_bytes(area + p.offset, image + p.offset, p.size);
  }
}

void load(Vcpu& cpu, Gva area, u8* image, const Pieces& pieces) {
  for (unsigned i = 0; i < pieces.count; ++i)
    cpu.mmu.read_bytes(area + pieces.list[i].offset, image + pieces.list[i].offset, pieces.list[i].size);
}

Gva aligned_address(Vcpu& cpu, const Insn& insn, unsigned size, unsigned alignment, Access access) {
  const Gva address = operand_address(cpu, insn, size, access);
  if (address.value & (alignment - 1)) throw fault_gp();
  return address;
}

void put_mxcsr(const FpuState& f, u8* image) {
  std::memcpy(image + 24, &f.mxcsr, 4);
  std::memcpy(image + 28, &kMxcsrMask, 4);
}

void fxsave(Vcpu& cpu, const Insn& insn) {
  check_x87_available(cpu);
  const Gva area = aligned_address(cpu, insn, 512, 16, Access::write);
  FpuAccess fpu(cpu);
  u8 image[512] = {};
  x87_to_fxsave(*fpu, image);
  put_mxcsr(*fpu, image);
  // Without CR4.OSFXSR the XMM registers are left out (SDM: implementation dependent; AMD: left out).
  const unsigned vectors = cpu.state.cr4 & cr4bit::OSFXSR ? vector_count(cpu) : 0;
  for (unsigned i = 0; i < vectors; ++i) std::memcpy(image + kXmmOffset + 16 * i, fpu->ymm[i], 16);
  cpu.mmu.write_bytes(area, image, kXmmOffset + 16 * vectors);
}

void fxrstor(Vcpu& cpu, const Insn& insn) {
  check_x87_available(cpu);
  const Gva area = aligned_address(cpu, insn, 512, 16, Access::read);
  u8 image[512];
  cpu.mmu.read_bytes(area, image, sizeof image);
  const u32 mxcsr = read_u32(image + 24);
  check_mxcsr(mxcsr);
  FpuAccess fpu(cpu);
  x87_from_fxsave(*fpu, image);
  fpu->mxcsr = mxcsr;
  const unsigned vectors = cpu.state.cr4 & cr4bit::OSFXSR ? vector_count(cpu) : 0;
  for (unsigned i = 0; i < vectors; ++i) std::memcpy(fpu->ymm[i], image + kXmmOffset + 16 * i, 16);
  fpu.commit();
}

void check_xsave_available(const Vcpu& cpu) {
  if (!(cpu.state.cr4 & cr4bit::OSXSAVE)) throw fault_ud();
  if (cpu.state.cr0 & cr0bit::TS) throw fault_nm();
}

u64 requested_features(const Vcpu& cpu) {
  const u64 edx_eax = (cpu.state.gpr[RDX] << 32) | static_cast<u32>(cpu.state.gpr[RAX]);
  return cpu.state.xcr0 & edx_eax;
}

// What of the area carries the data of components `features`, the header apart.
Pieces component_pieces(const Vcpu& cpu, u64 features, bool mxcsr) {
  Pieces pieces;
  if (features & kX87) {
    pieces.add(0, 24);
    pieces.add(32, 128);
  }
  if (mxcsr) pieces.add(24, 8);
  if (features & kSse) pieces.add(kXmmOffset, 16 * vector_count(cpu));
  if (features & kAvx) pieces.add(kAvxOffset, 16 * vector_count(cpu));
  return pieces;
}

void xsave(Vcpu& cpu, const Insn& insn) {
  check_xsave_available(cpu);
  const u64 features = requested_features(cpu);
  const Gva area = aligned_address(cpu, insn, features & kAvx ? kXsaveSize : kAvxOffset, 64, Access::write);
  FpuAccess fpu(cpu);
  u8 image[kXsaveSize] = {};
  x87_to_fxsave(*fpu, image);
  put_mxcsr(*fpu, image);
  for (unsigned i = 0; i < 16; ++i) {
    std::memcpy(image + kXmmOffset + 16 * i, fpu->ymm[i], 16);
    std::memcpy(image + kAvxOffset + 16 * i, fpu->ymm[i] + 16, 16);
  }
  // XSTATE_BV is all that is written of the header, and there only the requested components.
  cpu.mmu.probe(area + kHeaderOffset, 8, Access::write);
  const u64 xstate_bv = cpu.mmu.read<u64>(area + kHeaderOffset) | features;
  std::memcpy(image + kHeaderOffset, &xstate_bv, 8);
  Pieces pieces = component_pieces(cpu, features, features & (kSse | kAvx));
  pieces.add(kHeaderOffset, 8);
  store(cpu, area, image, pieces);
}

void xrstor(Vcpu& cpu, const Insn& insn) {
  check_xsave_available(cpu);
  const u64 features = requested_features(cpu);
  const Gva area = aligned_address(cpu, insn, features & kAvx ? kXsaveSize : kAvxOffset, 64, Access::read);
  u8 image[kXsaveSize] = {};
  cpu.mmu.read_bytes(area + kHeaderOffset, image + kHeaderOffset, kHeaderSize);
  u64 header[3];  // XSTATE_BV, XCOMP_BV, and eight bytes that the standard form wants zero
  std::memcpy(header, image + kHeaderOffset, sizeof header);
  // XCOMP_BV bit 63 asks for the compacted form, which the CPU models don't have.
  if ((header[0] & ~cpu.state.xcr0) || header[1] || header[2]) throw fault_gp();
  const u64 present = features & header[0];
  const u64 initial = features & ~header[0];
  // MXCSR comes from memory whatever XSTATE_BV says (SDM vol. 1 13.8.1).
  const bool mxcsr = features & (kSse | kAvx);
  load(cpu, area, image, component_pieces(cpu, present, mxcsr));
  if (mxcsr) check_mxcsr(read_u32(image + 24));

  FpuAccess fpu(cpu);
  if (present & kX87) x87_from_fxsave(*fpu, image);
  if (initial & kX87) {
    x87_init(*fpu);
    std::memset(fpu->st, 0, sizeof fpu->st);
  }
  if (mxcsr) fpu->mxcsr = read_u32(image + 24);
  // An absent component's bytes of the image are zero, which is its initial configuration.
  for (unsigned i = 0; i < vector_count(cpu); ++i) {
    if (features & kSse) std::memcpy(fpu->ymm[i], image + kXmmOffset + 16 * i, 16);
    if (features & kAvx) std::memcpy(fpu->ymm[i] + 16, image + kAvxOffset + 16 * i, 16);
  }
  fpu.commit();
}

void stmxcsr(Vcpu& cpu, const Insn& insn) {
  check_vector_available(cpu, insn);
  const Gva address = operand_address(cpu, insn, 4, Access::write);
  check_alignment(cpu, address, 4);
  FpuAccess fpu(cpu);
  cpu.mmu.write<u32>(address, fpu->mxcsr);
}

void ldmxcsr(Vcpu& cpu, const Insn& insn) {
  check_vector_available(cpu, insn);
  const Gva address = operand_address(cpu, insn, 4, Access::read);
  check_alignment(cpu, address, 4);
  const u32 mxcsr = cpu.mmu.read<u32>(address);
  check_mxcsr(mxcsr);
  FpuAccess fpu(cpu);
  fpu->mxcsr = mxcsr;
  fpu.commit();
}

}  // namespace

Helper find_xsave_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
      return fxsave;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return fxrstor;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
      return xsave;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
      return xrstor;
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
      return stmxcsr;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
      return ldmxcsr;
    default:
      return nullptr;
  }
}

}  // namespace deja
