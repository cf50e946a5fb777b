// CPUID, HLT, cache and TLB maintenance, and instructions that this CPU model does not have.
#include <array>

#include "semantics/system.h"

namespace deja {
namespace {

// The hypercall: CPUID with EAX = this leaf, ECX = length and RDX = address (off DS) of a line for the guest
// control device. CPUID, since every program may execute it, and since on any other machine it changes
// nothing but the four registers; a leaf of the range that is reserved for hypervisors, of whose leaves no
// system looks for more than the first of each 256.
constexpr u32 kGuestCallLeaf = 0x4f646a61;
constexpr std::size_t kLongestCall = 255;

// EAX: 1 when the line was taken, 0 when it is too long, 2 when it is a mark too many; EBX, ECX, EDX: "DejaVM
// guest". All zero without the device.
CpuidRegs call_answer(u32 eax) { return {eax, 0x616a6544, 0x67204d56, 0x74736575}; }

CpuidRegs guest_call(Vcpu& cpu) {
  using enum GuestCallAnswer;
  const CpuState& s = cpu.state;
  const u32 length = low32(s.gpr[RCX]);
  if (length > kLongestCall) return cpu.platform.guest_call({}) == absent ? CpuidRegs{} : call_answer(0);
  std::array<char, kLongestCall> line;
  for (u32 i = 0; i < length; ++i) {
    const u64 offset = s.gpr[RDX] + i;
    const Gva address = linear_address(cpu, DS, s.mode64() ? offset : low32(offset), 1, Access::read);
    cpu.mmu.read_bytes(address, &line[i], 1);
  }
  const GuestCallAnswer answer = cpu.platform.guest_call({line.data(), length});
  return answer == absent ? CpuidRegs{} : call_answer(answer == taken ? 1 : 2);
}

void cpuid_insn(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  const u32 leaf = low32(s.gpr[RAX]);
  const CpuidRegs r =
      leaf == kGuestCallLeaf ? guest_call(cpu) : cpuid(cpu.model, s, cpu.vcpu_count, leaf, low32(s.gpr[RCX]));
  s.gpr[RAX] = r.eax;
  s.gpr[RBX] = r.ebx;
  s.gpr[RCX] = r.ecx;
  s.gpr[RDX] = r.edx;
}

void hlt(Vcpu& cpu, const Insn&) {
  require_cpl0(cpu.state);
  cpu.state.activity = Activity::halted;
}

// Caches are invisible and TLBs coherent (docs/determinism.md): only the privilege check is left of these.
void maintenance(Vcpu& cpu, const Insn&) { require_cpl0(cpu.state); }

void invpcid(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_cpl0(s);
  enum : u64 { kAddress, kSinglePcid, kAllWithGlobal, kAll };
  const u64 type = read_operand(cpu, insn, 0);
  struct {
    u64 pcid, address;
  } descriptor;
  cpu.mmu.read_bytes(operand_address(cpu, insn, sizeof descriptor, Access::read), &descriptor,
                     sizeof descriptor);
  if (type > kAll || descriptor.pcid >> 12) throw fault_gp();
  if (type <= kSinglePcid && descriptor.pcid && !(s.cr4 & cr4bit::PCIDE)) throw fault_gp();
  if (type == kAddress && !is_canonical(descriptor.address, cpu.model.linear_bits)) throw fault_gp();
}

void undefined(Vcpu&, const Insn&) { throw fault_ud(); }

}  // namespace

Helper find_misc_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
      return cpuid_insn;
    case ZYDIS_MNEMONIC_HLT:
      return hlt;
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
      return maintenance;
    case ZYDIS_MNEMONIC_INVPCID:
      return invpcid;
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_RSM:
    case ZYDIS_MNEMONIC_GETSEC:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_MONITORX:
    case ZYDIS_MNEMONIC_MWAITX:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMFUNC:
    case ZYDIS_MNEMONIC_VMLAUNCH:
    case ZYDIS_MNEMONIC_VMRESUME:
    case ZYDIS_MNEMONIC_VMXON:
    case ZYDIS_MNEMONIC_VMXOFF:
    case ZYDIS_MNEMONIC_VMPTRLD:
    case ZYDIS_MNEMONIC_VMPTRST:
    case ZYDIS_MNEMONIC_VMCLEAR:
    case ZYDIS_MNEMONIC_VMREAD:
    case ZYDIS_MNEMONIC_VMWRITE:
    case ZYDIS_MNEMONIC_INVEPT:
    case ZYDIS_MNEMONIC_INVVPID:
    case ZYDIS_MNEMONIC_VMRUN:
    case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_VMLOAD:
    case ZYDIS_MNEMONIC_VMSAVE:
    case ZYDIS_MNEMONIC_STGI:
    case ZYDIS_MNEMONIC_CLGI:
    case ZYDIS_MNEMONIC_SKINIT:
    case ZYDIS_MNEMONIC_INVLPGA:
    case ZYDIS_MNEMONIC_XSAVES:
    case ZYDIS_MNEMONIC_XSAVES64:
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_SERIALIZE:
      return undefined;
    default:
      return nullptr;
  }
}

Helper find_system_helper(const Insn& insn) {
  for (const auto find : {find_transfer_helper, find_interrupt_helper, find_fast_call_helper,
                          find_control_register_helper, find_table_helper, find_segment_helper,
                          find_msr_helper, find_flags_helper, find_io_helper, find_misc_helper})
    if (const Helper helper = find(insn)) return helper;
  return nullptr;
}

}  // namespace deja
