// RDMSR, WRMSR and the time-stamp counter (SDM vol. 4 chapter 2: the architectural MSRs of this CPU model).
#include "base/log.h"
#include "semantics/system.h"

namespace deja {
namespace {

enum MsrNumber : u32 {
  kTsc = 0x10,
  kPlatformId = 0x17,
  kApicBase = 0x1b,
  kFeatureControl = 0x3a,
  kTscAdjust = 0x3b,
  kSpecCtrl = 0x48,
  kPredCmd = 0x49,
  kBiosUpdateTrigger = 0x79,
  kBiosSignId = 0x8b,
  kPlatformInfo = 0xce,
  kMtrrCap = 0xfe,
  kArchCapabilities = 0x10a,
  kMiscFeatureEnables = 0x140,
  kSysenterCs = 0x174,
  kSysenterEsp = 0x175,
  kSysenterEip = 0x176,
  kMcgCap = 0x179,
  kMcgStatus = 0x17a,
  kMcgCtl = 0x17b,
  kMiscEnable = 0x1a0,
  kDebugCtl = 0x1d9,
  kMtrrPhysFirst = 0x200,
  kMtrrPhysLast = 0x20f,
  kMtrrFix64k = 0x250,
  kMtrrFix16kFirst = 0x258,
  kMtrrFix16kLast = 0x259,
  kMtrrFix4kFirst = 0x268,
  kMtrrFix4kLast = 0x26f,
  kPat = 0x277,
  kMtrrDefType = 0x2ff,
  kMcBankFirst = 0x400,
  kMcBankLast = 0x40f,
  kTscDeadline = 0x6e0,
  kX2apicFirst = 0x800,
  kX2apicLast = 0x83f,
  kEfer = 0xc0000080,
  kStar = 0xc0000081,
  kLstar = 0xc0000082,
  kCstar = 0xc0000083,
  kFmask = 0xc0000084,
  kFsBase = 0xc0000100,
  kGsBase = 0xc0000101,
  kKernelGsBase = 0xc0000102,
  kTscAux = 0xc0000103,
};

// None of the known speculation flaws: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO,
// TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO.
constexpr u64 kArchCapabilitiesValue = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 |
                                       1 << 13 | 1 << 14 | 1 << 15 | 1 << 20 | 1 << 24 | 1 << 26 | 1 << 27 |
                                       u64{1} << 62;
// Eight variable ranges, fixed ranges, write-combining.
constexpr u64 kMtrrCapValue = 8 | 1 << 8 | 1 << 10;
// Four banks; IA32_MCG_CTL present.
constexpr u64 kMcgCapValue = 4 | 1 << 8;
// IA32_MISC_ENABLE: what software may set, and the read-only bits, which keep their values (performance
// monitoring, branch trace store, PEBS). Without effect are those for thermal control, SpeedStep, MONITOR,
// the task-priority messages of a bus that is not there, and turbo.
constexpr u64 kMiscEnableWritable = miscbit::kFastStrings | 1 << 3 | 1 << 16 | 1 << 18 |
                                    miscbit::kLimitCpuid | 1 << 23 | miscbit::kNoExecuteDisable |
                                    u64{1} << 38;
constexpr u64 kMiscEnableReadOnly = 1 << 7 | miscbit::kNoBranchTrace | miscbit::kNoPebs;
// IA32_DEBUGCTL: LBR, which records nothing here, and BTF.
constexpr u64 kDebugCtlWritable = 3;

// MTRR memory types: UC, WC, WT, WP, WB.
bool valid_mtrr_type(u64 type) { return type == 0 || type == 1 || (type >= 4 && type <= 6); }

bool valid_types(u64 value, bool pat) {
  for (int shift = 0; shift < 64; shift += 8) {
    const u64 type = value >> shift & 0xff;
    if (!valid_mtrr_type(type) && !(pat && type == 7)) return false;
  }
  return true;
}

// The slot of a fixed-range MTRR, or nullptr.
u64* fixed_mtrr(CpuState& s, u32 msr) {
  if (msr == kMtrrFix64k) return &s.msr.mtrr_fixed[0];
  if (msr >= kMtrrFix16kFirst && msr <= kMtrrFix16kLast) return &s.msr.mtrr_fixed[1 + msr - kMtrrFix16kFirst];
  if (msr >= kMtrrFix4kFirst && msr <= kMtrrFix4kLast) return &s.msr.mtrr_fixed[3 + msr - kMtrrFix4kFirst];
  return nullptr;
}

bool is_x2apic_msr(u32 msr) { return msr == kTscDeadline || (msr >= kX2apicFirst && msr <= kX2apicLast); }

// False: no such MSR, or not readable.
bool read_msr(Vcpu& cpu, u32 msr, u64* value) {
  CpuState& s = cpu.state;
  const auto is = [&](u64 v) { return *value = v, true; };
  switch (msr) {
    case kTsc:
      return is(cpu.platform.tsc() + s.msr.tsc_adjust);
    case kPlatformId:
      return is(0);
    case kApicBase:
      return is(s.msr.apic_base);
    case kFeatureControl:
      return is(s.msr.feature_control);
    case kTscAdjust:
      return is(s.msr.tsc_adjust);
    case kSpecCtrl:
      return is(s.msr.spec_ctrl);
    case kBiosSignId:
      return is(s.msr.microcode_rev << 32);
    case kPlatformInfo: {
      // Maximum non-turbo ratio and maximum efficiency ratio, in units of 100 MHz.
      const u64 ratio = cpu.model.tsc_hz / 100'000'000;
      return is(ratio << 8 | ratio << 40);
    }
    case kMtrrCap:
      return is(kMtrrCapValue);
    case kArchCapabilities:
      return is(kArchCapabilitiesValue);
    case kMiscFeatureEnables:
      return is(0);
    case kSysenterCs:
      return is(s.msr.sysenter_cs);
    case kSysenterEsp:
      return is(s.msr.sysenter_esp);
    case kSysenterEip:
      return is(s.msr.sysenter_eip);
    case kMcgCap:
      return is(kMcgCapValue);
    case kMcgStatus:
      return is(s.msr.mcg_status);
    case kMcgCtl:
      return is(s.msr.mcg_ctl);
    case kMiscEnable:
      return is(s.msr.misc_enable);
    case kDebugCtl:
      return is(s.msr.debugctl);
    case kPat:
      return is(s.msr.pat);
    case kMtrrDefType:
      return is(s.msr.mtrr_def_type);
    case kEfer:
      return is(s.efer);
    case kStar:
      return is(s.msr.star);
    case kLstar:
      return is(s.msr.lstar);
    case kCstar:
      return is(s.msr.cstar);
    case kFmask:
      return is(s.msr.fmask);
    case kFsBase:
      return is(s.seg[FS].base);
    case kGsBase:
      return is(s.seg[GS].base);
    case kKernelGsBase:
      return is(s.msr.kernel_gs_base);
    case kTscAux:
      return is(s.msr.tsc_aux);
    default:
      break;
  }
  if (const u64* fixed = fixed_mtrr(s, msr)) return is(*fixed);
  if (msr >= kMtrrPhysFirst && msr <= kMtrrPhysLast) return is(s.msr.mtrr_phys[msr - kMtrrPhysFirst]);
  if (msr >= kMcBankFirst && msr <= kMcBankLast) return is(s.msr.mc_bank[(msr - kMcBankFirst) / 4][msr % 4]);
  if (is_x2apic_msr(msr)) return cpu.platform.apic_msr_read(s.index, msr, value);
  return false;
}

bool write_apic_base(Vcpu& cpu, u64 value) {
  constexpr u64 kBsp = 1 << 8, kX2apic = 1 << 10, kEnable = 1 << 11, kMode = kX2apic | kEnable;
  CpuState& s = cpu.state;
  const u64 base = ((u64{1} << cpu.model.physical_bits) - 1) & ~u64{0xfff};
  if (value & ~(base | kBsp | kMode)) return false;
  // Transitions: SDM vol. 3A figure 11-27.
  const u64 from = s.msr.apic_base & kMode, to = value & kMode;
  if (to == kX2apic) return false;
  if (from == kMode && to == kEnable) return false;
  if (from == 0 && to == kMode) return false;
  s.msr.apic_base = value;
  cpu.platform.apic_base_written(s.index, value);
  return true;
}

bool write_variable_mtrr(Vcpu& cpu, u32 index, u64 value) {
  constexpr u64 kValid = 1 << 11;
  const u64 address = ((u64{1} << cpu.model.physical_bits) - 1) & ~u64{0xfff};
  const bool mask = index & 1;
  if (value & ~(address | (mask ? kValid : 0xff))) return false;
  if (!mask && !valid_mtrr_type(value & 0xff)) return false;
  cpu.state.msr.mtrr_phys[index] = value;
  return true;
}

// Software can only clear STATUS (SDM vol. 3B 16.3.2.2). The manual lets processors refuse ones in ADDR and
// MISC too; most take them.
bool write_machine_check_bank(CpuState& s, u32 msr, u64 value) {
  const bool status = msr % 4 == 1;
  if (status && value != 0) return false;
  s.msr.mc_bank[(msr - kMcBankFirst) / 4][msr % 4] = value;
  return true;
}

bool write_misc_enable(CpuState& s, u64 value) {
  if (value & ~(kMiscEnableWritable | kMiscEnableReadOnly)) return false;
  s.msr.misc_enable = (value & kMiscEnableWritable) | (s.msr.misc_enable & kMiscEnableReadOnly);
  return true;
}

// False: no such MSR, not writable, or a value it does not take.
bool write_msr(Vcpu& cpu, u32 msr, u64 value) {
  CpuState& s = cpu.state;
  const auto set = [&](u64& slot, u64 allowed = ~u64{0}) {
    if (value & ~allowed) return false;
    slot = value;
    return true;
  };
  const auto set_address = [&](u64& slot) {
    if (!is_canonical(value, cpu.model.linear_bits)) return false;
    slot = value;
    return true;
  };
  constexpr u64 kLow32 = 0xffffffff;
  switch (msr) {
    case kTsc:
      s.msr.tsc_adjust = value - cpu.platform.tsc();
      return cpu.tsc_moved = true;
    case kApicBase:
      return write_apic_base(cpu, value);
    case kTscAdjust:
      s.msr.tsc_adjust = value;
      return cpu.tsc_moved = true;
    case kSpecCtrl:
      return set(s.msr.spec_ctrl, 3);  // IBRS, STIBP
    case kPredCmd:
      return !(value & ~u64{1});  // IBPB: nothing is predicted here
    case kBiosUpdateTrigger:
      return true;
    case kBiosSignId:
      return true;  // software writes 0 before CPUID loads the revision
    case kMiscFeatureEnables:
      return value == 0;
    case kSysenterCs:
      return set(s.msr.sysenter_cs);
    case kSysenterEsp:
      return set_address(s.msr.sysenter_esp);
    case kSysenterEip:
      return set_address(s.msr.sysenter_eip);
    case kMcgStatus:
      return set(s.msr.mcg_status, 0xf);
    case kMcgCtl:
      return value == 0 || value == ~u64{0} ? set(s.msr.mcg_ctl) : false;
    case kMiscEnable:
      return write_misc_enable(s, value);
    case kDebugCtl:
      return set(s.msr.debugctl, kDebugCtlWritable);
    case kPat:
      return valid_types(value, true) && set(s.msr.pat);
    case kMtrrDefType:
      return valid_mtrr_type(value & 0xff) && set(s.msr.mtrr_def_type, 0xcff);
    case kEfer:
      write_efer(cpu, value);
      return true;
    case kStar:
      return set(s.msr.star);
    case kLstar:
      return set_address(s.msr.lstar);
    case kCstar:
      return set_address(s.msr.cstar);
    case kFmask:
      return set(s.msr.fmask, kLow32);
    case kFsBase:
      return set_address(s.seg[FS].base);
    case kGsBase:
      return set_address(s.seg[GS].base);
    case kKernelGsBase:
      return set_address(s.msr.kernel_gs_base);
    case kTscAux:
      return set(s.msr.tsc_aux, kLow32);
    default:
      break;
  }
  if (u64* fixed = fixed_mtrr(s, msr)) return valid_types(value, false) && set(*fixed);
  if (msr >= kMtrrPhysFirst && msr <= kMtrrPhysLast)
    return write_variable_mtrr(cpu, msr - kMtrrPhysFirst, value);
  if (msr >= kMcBankFirst && msr <= kMcBankLast) return write_machine_check_bank(s, msr, value);
  if (is_x2apic_msr(msr)) return cpu.platform.apic_msr_write(s.index, msr, value);
  return false;
}

void rdmsr(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  require_cpl0(s);
  const u32 msr = low32(s.gpr[RCX]);
  u64 value = 0;
  if (!read_msr(cpu, msr, &value)) {
    log_info("guest", "vCPU {}: RDMSR {:x} at {:x} raises #GP", s.index, msr, s.rip);
    throw fault_gp();
  }
  s.gpr[RAX] = low32(value);
  s.gpr[RDX] = value >> 32;
}

void wrmsr(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  require_cpl0(s);
  const u32 msr = low32(s.gpr[RCX]);
  const u64 value = low32(s.gpr[RAX]) | s.gpr[RDX] << 32;
  if (!write_msr(cpu, msr, value)) {
    log_info("guest", "vCPU {}: WRMSR {:x} = {:x} at {:x} raises #GP", s.index, msr, value, s.rip);
    throw fault_gp();
  }
}

void rdtsc(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  if (!may_read_tsc(s)) throw fault_gp();
  read_tsc(s, cpu.platform.tsc() + s.msr.tsc_adjust);
}

void rdtscp(Vcpu& cpu, const Insn& insn) {
  rdtsc(cpu, insn);
  read_tsc_aux(cpu.state);
}

// There are no performance counters, so no valid index either.
void rdpmc(Vcpu&, const Insn&) { throw fault_gp(); }

}  // namespace

Helper find_msr_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_RDMSR:
      return rdmsr;
    case ZYDIS_MNEMONIC_WRMSR:
      return wrmsr;
    case ZYDIS_MNEMONIC_RDTSC:
      return rdtsc;
    case ZYDIS_MNEMONIC_RDTSCP:
      return rdtscp;
    case ZYDIS_MNEMONIC_RDPMC:
      return rdpmc;
    default:
      return nullptr;
  }
}

}  // namespace deja
