#include "fuzz/host_differences.h"

#include <algorithm>
#include <cstring>

#include "decode/flag_groups.h"
#include "decode/insn.h"
#include "execute/host/host_flags.h"
#include "fuzz/compare.h"
#include "semantics/flag_ops.h"
#include "semantics/fpu/fpu_state.h"
#include "semantics/segments.h"
#include "semantics/system.h"
#include "semantics/vcpu.h"
#include "translate/classify.h"

namespace deja::fuzz {
namespace {

bool intel_host() {
  static const bool intel = __builtin_cpu_is("intel");
  return intel;
}

bool writes_memory(const Insn& i) {
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].kind == OperandKind::mem && i.op[k].written) return true;
  return false;
}

bool repeat_prefix(const Insn& i) {
  return std::any_of(i.bytes, i.bytes + i.opcode_offset, [](u8 b) { return b == 0xf2 || b == 0xf3; });
}

// What AMD's CPUs of the Zen family do in their own way.
bool host_differs(const Insn& i) {
  static const u32 flags = host_flag_differences().groups;
  const FlagGroup group = flag_group(i.mnemonic);
  if (group != FlagGroup::none && (flags >> static_cast<unsigned>(group) & 1)) return true;
  switch (classify(i)) {
    case Way::jump:
    case Way::jcc:
    case Way::call:
    case Way::ret:
    case Way::loop:
      // 66h makes a near branch one to IP, CALL checks the target before it pushes, and F2h and F3h say which
      // value of ZF LOOPE and LOOPNE go on with.
      return i.prefix66 || i.has_mem || (classify(i) == Way::call && !i.is_relative) ||
             (classify(i) == Way::loop && repeat_prefix(i));
    default:
      break;
  }
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSXD:  // with 16-bit operands reads four bytes
      return i.operand_size == 2;
    case ZYDIS_MNEMONIC_NOP:  // 0F 0D with a register is undefined
      return i.map == ZYDIS_OPCODE_MAP_0F && i.opcode == 0x0d;
    case ZYDIS_MNEMONIC_VCVTPS2PH:  // MXCSR, when the store faults
      return i.has_mem;
    case ZYDIS_MNEMONIC_MASKMOVDQU:  // CR2, when the store faults
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      return true;
    case ZYDIS_MNEMONIC_VMASKMOVPS:  // 32-bit addresses of elements wrap at 4 GiB, when one faults
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
      return i.has_mem && i.address_size == 4;
    case ZYDIS_MNEMONIC_PAUSE:  // F3 REX.B 90 exchanges r8 and rax
      return i.rex_b;
    default:
      break;
  }
  // A misaligned operand.
  if (i.isa_ext == ZYDIS_ISA_EXT_SHA && i.has_mem) return true;
  // Which of its operands CMPS reports a page fault of, when both have one (seen on Zen 5).
  if (i.map == ZYDIS_OPCODE_MAP_DEFAULT && (i.opcode == 0xa6 || i.opcode == 0xa7)) return true;
  // What it leaves of mask and destination when an element faults.
  if (i.has_mem && i.mem.vector_index) return true;
  // A store leaves TOP alone; a stack fault, or an exception that waits, comes after a page fault.
  if (uses_mmx(i) || (waits_for_fpu(i) && i.has_mem)) return writes_memory(i);
  // Flags, when a comparison faults; the upper half of RCX, when there is nothing to do.
  return (i.rep || i.repne) && ((i.flags_written & flag::ZF) || i.address_size == 4);
}

u64 segment_base(unsigned segment) { return segment == FS ? kFsBase : segment == GS ? kGsBase : 0; }

u64 linear_address(const Insn& i, const UserState& s) {
  return effective_offset(s.gpr, s.rip, i) + segment_base(i.mem.segment);
}

// MXCSR.MM, the misaligned exception mask (APM vol. 1 4.2.2), is reserved in the CPU models. Whether the host
// has it is asked of its MXCSR_MASK, as a hypervisor that hides MisAlignSse of CPUID cannot take it away.
constexpr u32 kMisalignedMask = 1 << 17;
static_assert(!(kMxcsrMask & kMisalignedMask));

bool host_has_misaligned_mask() {
  static const bool has = [] {
    alignas(16) u8 image[512];
    __builtin_ia32_fxsave(image);
    u32 mask;
    std::memcpy(&mask, image + 28, sizeof mask);
    return (mask & kMisalignedMask) != 0;
  }();
  return has;
}

// Whether the engine refused to load an MXCSR in which nothing but MXCSR.MM is reserved.
bool refused_misaligned_mask(const TestCase& test, const RunResult& engine) {
  if (engine.end != End::fault || engine.vector != kGP) return false;
  const Insn i = last_insn(test, engine);
  if (i.mnemonic != ZYDIS_MNEMONIC_LDMXCSR && i.mnemonic != ZYDIS_MNEMONIC_VLDMXCSR) return false;
  const u64 offset = linear_address(i, engine.state) - kDataAddress;
  u32 mxcsr;
  if (offset > kDataSize - sizeof mxcsr) return false;
  std::memcpy(&mxcsr, &engine.data[offset], sizeof mxcsr);
  return (mxcsr & ~kMxcsrMask) == kMisalignedMask;
}

// Whether the engine's page fault is of an operand in FS or GS whose offset is not canonical: seen to raise
// #GP on Zen 5, where the manuals check the linear address only (APM vol. 2 5.3.1, SDM vol. 1 3.3.7.1).
bool offset_is_not_canonical(const TestCase& test, const RunResult& engine) {
  const Insn i = last_insn(test, engine);
  const UserState& s = engine.state;
  const unsigned segment = i.has_mem ? i.mem.segment : static_cast<unsigned>(segment_override(i, DS));
  if (segment != FS && segment != GS) return false;
  const u64 offset = i.has_mem                           ? effective_offset(s.gpr, s.rip, i)
                     : i.mnemonic == ZYDIS_MNEMONIC_XLAT ? s.gpr[RBX] + (s.gpr[RAX] & 0xff)
                                                         : s.gpr[RSI];  // of string instructions
  return engine.cr2 == offset + segment_base(segment) && !is_canonical(offset, 48);
}

}  // namespace

std::vector<unsigned> done_alike(const TestCase& test) {
  std::vector<unsigned> indices;
  for (unsigned k = 0; k < test.insns.size(); ++k) {
    Insn i;
    const Bytes& bytes = test.insns[k];
    const bool decoded = decode(bytes.data(), bytes.size(), CodeSize::bits64, true, &i) == DecodeStatus::ok;
    if (intel_host() || !decoded || !host_differs(i)) indices.push_back(k);
  }
  return indices;
}

bool checks_differ(const TestCase& test, const RunResult& host, const RunResult& engine) {
  if (intel_host()) return false;
  if (host_has_misaligned_mask() && refused_misaligned_mask(test, engine)) return true;
  if (host.vector == kAC || engine.vector == kAC) return true;
  if (host.end != End::fault || engine.end != End::fault || host.state.rip != engine.state.rip) return false;
  if (host.vector == kGP && engine.vector == kPF && offset_is_not_canonical(test, engine)) return true;
  switch (last_insn(test, host).mnemonic) {
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
      return host.vector == kPF && (engine.vector == kGP || engine.vector == kSS) &&
             host.cr2 >= kLastUserPage;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      return host.vector == kGP && engine.vector == kSS;
    default:
      return false;
  }
}

}  // namespace deja::fuzz
