// CPUID (SDM vol. 2A "CPUID", vol. 1 chapter 20) and the RESET and INIT states (SDM vol. 3A table 10-1).
//
// Both models say they are an Intel core of family 6, model 3Ch, stepping 3: Linux then takes the TSC and
// APIC timer frequencies from leaf 15h, has no erratum workarounds for it and, with IA32_ARCH_CAPABILITIES
// saying that the CPU has none of the speculation flaws, turns none of the costly mitigations on.
#include "guest/cpu_model.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace deja {
namespace {

constexpr u32 kSignature = 0x000306c3;  // family 6, model 3Ch, stepping 3
constexpr u32 kMaxLeaf = 0x16, kMaxExtendedLeaf = 0x80000008;
constexpr u64 kApicEnabled = 1 << 11, kApicBootstrap = 1 << 8;

constexpr u32 bits(std::initializer_list<unsigned> positions) {
  u32 value = 0;
  for (const unsigned p : positions) value |= u32{1} << p;
  return value;
}

CpuidRegs from_text(std::string_view text, std::size_t at) {
  u32 r[4] = {};
  for (std::size_t i = 0; i < sizeof r && at + i < text.size(); ++i)
    r[i / 4] |= u32{static_cast<u8>(text[at + i])} << (i % 4 * 8);
  return {r[0], r[1], r[2], r[3]};
}

CpuidRegs feature_leaf(const CpuModel& model, const CpuState& s, unsigned vcpu_count) {
  CpuidRegs r;
  r.eax = kSignature;
  constexpr u32 kClflushLine = 64 / 8;
  r.ebx = s.index << 24 | std::bit_ceil(vcpu_count) << 16 | kClflushLine << 8;
  // SSE3, SSSE3, CMPXCHG16B, PCID, SSE4.1, SSE4.2, x2APIC, POPCNT, TSC-deadline, hypervisor.
  r.ecx = bits({0, 9, 13, 17, 19, 20, 21, 23, 24, 31});
  if (model.avx) {
    // PCLMULQDQ, FMA, MOVBE, AES, XSAVE, AVX, F16C.
    r.ecx |= bits({1, 12, 22, 25, 26, 28, 29});
    if (s.cr4 & cr4bit::OSXSAVE) r.ecx |= bits({27});
  }
  // FPU, DE, PSE, TSC, MSR, PAE, MCE, CX8, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE-36, CLFSH, MMX, FXSR, SSE,
  // SSE2, SS.
  r.edx = bits({0, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27});
  if (s.msr.apic_base & kApicEnabled) r.edx |= bits({9});
  if (vcpu_count > 1) r.edx |= bits({28});
  return r;
}

// Deterministic cache parameters: every vCPU a core of its own, one shared last level.
CpuidRegs cache_leaf(unsigned vcpu_count, u32 subleaf) {
  struct Cache {
    u32 type, level, ways, sets;
    bool shared;
  };
  constexpr Cache kCaches[] = {
      {1, 1, 8, 64, false},    // data, 32 KiB
      {2, 1, 8, 64, false},    // instructions, 32 KiB
      {3, 2, 8, 512, false},   // unified, 256 KiB
      {3, 3, 16, 8192, true},  // unified, 8 MiB
  };
  if (subleaf >= std::size(kCaches)) return {};
  const Cache& c = kCaches[subleaf];
  const u32 cores = std::bit_ceil(vcpu_count) - 1;
  CpuidRegs r;
  r.eax = c.type | c.level << 5 | 1 << 8 | (c.shared ? cores : 0) << 14 | cores << 26;
  r.ebx = 63 | (c.ways - 1) << 22;  // 64-byte lines, one partition
  r.ecx = c.sets - 1;
  r.edx = c.shared ? 1 << 1 : 0;  // the shared level is inclusive
  return r;
}

CpuidRegs structured_features(const CpuModel& model, u32 subleaf) {
  if (subleaf != 0) return {};
  CpuidRegs r;
  // FSGSBASE, TSC_ADJUST, SMEP, ERMS, INVPCID, FPU CS and DS deprecated, SMAP.
  r.ebx = bits({0, 1, 7, 9, 10, 13, 20});
  if (model.avx) r.ebx |= bits({3, 5, 8});  // BMI1, AVX2, BMI2
  if (model.adx) r.ebx |= bits({19});
  if (model.sha) r.ebx |= bits({29});
  r.ecx = bits({2});           // UMIP
  r.edx = bits({26, 27, 29});  // IBRS and IBPB, STIBP, IA32_ARCH_CAPABILITIES
  return r;
}

// Extended topology: one thread a core, all cores in one package.
CpuidRegs topology_leaf(const CpuState& s, unsigned vcpu_count, u32 subleaf) {
  CpuidRegs r;
  r.ecx = subleaf & 0xff;
  r.edx = s.index;  // x2APIC id
  if (subleaf == 0) {
    r.ebx = 1;
    r.ecx |= 1 << 8;  // SMT level
  } else if (subleaf == 1) {
    r.eax = static_cast<u32>(std::bit_width(vcpu_count - 1));
    r.ebx = vcpu_count;
    r.ecx |= 2 << 8;  // core level
  }
  return r;
}

// XSAVE: x87, SSE and AVX in the standard form; no XSAVEOPT, XSAVEC or XSAVES.
CpuidRegs xsave_leaf(const CpuModel& model, const CpuState& s, u32 subleaf) {
  if (!model.avx) return {};
  constexpr u32 kLegacyAndHeader = 576, kYmmHigh = 256;
  constexpr u64 kAvx = 4;
  if (subleaf == 0)
    return {7, kLegacyAndHeader + (s.xcr0 & kAvx ? kYmmHigh : 0), kLegacyAndHeader + kYmmHigh, 0};
  if (subleaf == 2) return {kYmmHigh, kLegacyAndHeader, 0, 0};
  return {};
}

CpuidRegs extended_leaf(const CpuModel& model, const CpuState& s, u32 leaf) {
  CpuidRegs r;
  switch (leaf) {
    case 0x80000000:
      r.eax = kMaxExtendedLeaf;
      break;
    case 0x80000001:
      r.ecx = bits({0});                  // LAHF and SAHF in 64-bit mode
      if (model.avx) r.ecx |= bits({5});  // LZCNT
      r.edx = bits({26, 27, 29});         // 1 GiB pages, RDTSCP, Intel 64
      if (!(s.msr.misc_enable & miscbit::kNoExecuteDisable)) r.edx |= bits({20});  // NX
      if (s.mode64()) r.edx |= bits({11});  // SYSCALL: Intel reports it in 64-bit mode only
      break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      constexpr std::string_view kBrand[] = {"DejaVM virtual CPU, x86-64-v3",
                                             "DejaVM virtual CPU, x86-64-v2"};
      return from_text(kBrand[model.avx ? 0 : 1], (leaf - 0x80000002) * 16);
    }
    case 0x80000006:
      r.ecx = 256 << 16 | 6 << 12 | 64;
      break;  // L2: 256 KiB, 8 ways, 64-byte lines
    case 0x80000007:
      r.edx = bits({8});
      break;  // invariant TSC
    case 0x80000008:
      r.eax = model.linear_bits << 8 | model.physical_bits;
      break;
    default:
      break;
  }
  return r;
}

}  // namespace

std::string_view cpu_model_names() { return "x86-64-v3 x86-64-v2"; }

std::string cpu_feature_names() {
  std::string names;
  for (const CpuFeature& f : kCpuFeatures) names += fmt::format("{}{}", names.empty() ? "" : " ", f.name);
  return names;
}

Result<CpuModel> parse_cpu_model(std::string_view text) {
  std::string_view rest = text;
  const auto next = [&] {
    const std::size_t end = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return item;
  };
  CpuModel model;
  const std::string_view base = next();
  if (base != "x86-64-v3" && base != "x86-64-v2")
    return make_error("--cpu {}: no such CPU model; there are: {}", text, cpu_model_names());
  model.avx = base == "x86-64-v3";
  while (!rest.empty()) {
    const std::string_view item = next();
    std::string_view name = item;
    bool on = true;
    if (name.starts_with('+') || name.starts_with('-')) {
      on = name[0] == '+';
      name.remove_prefix(1);
    } else if (name.ends_with("=on")) {
      name.remove_suffix(3);
    } else if (name.ends_with("=off")) {
      on = false;
      name.remove_suffix(4);
    }
    const auto* const feature =
        std::ranges::find_if(kCpuFeatures, [&](const CpuFeature& f) { return f.name == name; });
    if (feature == std::end(kCpuFeatures))
      return make_error("--cpu {}: no feature {:?} can be added to {}; there are: {}, as in {},+{}", text,
                        name, base, cpu_feature_names(), base, kCpuFeatures[0].name);
    model.*feature->has = on;
  }
  model.name = base;
  for (const CpuFeature& f : kCpuFeatures)
    if (model.*f.has) model.name += fmt::format(",+{}", f.name);
  return model;
}

CpuidRegs cpuid(const CpuModel& model, const CpuState& state, unsigned vcpu_count, u32 leaf, u32 subleaf) {
  constexpr u32 kHypervisor = 0x40000000;
  if (leaf >= kHypervisor && leaf < kHypervisor + 0x10000000) {
    if (leaf != kHypervisor) return {};
    const CpuidRegs signature = from_text("DejaVMDejaVM", 0);
    return {kHypervisor, signature.eax, signature.ebx, signature.ecx};
  }
  if (leaf >= 0x80000000 && leaf <= kMaxExtendedLeaf) return extended_leaf(model, state, leaf);
  // Out of range: Intel processors return the data of the highest basic leaf.
  const u32 max_leaf = state.msr.misc_enable & miscbit::kLimitCpuid ? 2 : kMaxLeaf;
  if (leaf > max_leaf) leaf = max_leaf;
  switch (leaf) {
    case 0x0: {
      const CpuidRegs vendor = from_text("GenuntelineI", 0);
      return {max_leaf, vendor.eax, vendor.ebx, vendor.ecx};
    }
    case 0x1:
      return feature_leaf(model, state, vcpu_count);
    case 0x2:
      return {0x76036301, 0x00f0b5ff, 0, 0x00c10000};  // descriptors; FFh: caches are in leaf 4
    case 0x4:
      return cache_leaf(vcpu_count, subleaf);
    case 0x6:
      return {.eax = bits({2})};  // ARAT
    case 0x7:
      return structured_features(model, subleaf);
    case 0xb:
      return topology_leaf(state, vcpu_count, subleaf);
    case 0xd:
      return xsave_leaf(model, state, subleaf);
    case 0x15: {
      const u64 divisor = std::gcd(model.tsc_hz, model.crystal_hz);
      return {static_cast<u32>(model.crystal_hz / divisor), static_cast<u32>(model.tsc_hz / divisor),
              static_cast<u32>(model.crystal_hz), 0};
    }
    case 0x16: {
      const u32 mhz = static_cast<u32>(model.tsc_hz / 1'000'000);
      return {mhz, mhz, 100, 0};
    }
    default:
      return {};
  }
}

namespace {

// What RESET and INIT have in common.
void set_start_state(CpuState& s) {
  std::memset(s.gpr, 0, sizeof s.gpr);
  s.gpr[RDX] = kSignature;
  s.rip = 0xfff0;
  s.rflags = flag::kReserved1;
  for (SegmentRegister& r : s.seg) r = {.base = 0, .limit = 0xffff, .selector = 0, .attr = 0x93};
  s.seg[CS] = {.base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attr = 0x9b};
  s.ldtr = {.base = 0, .limit = 0xffff, .selector = 0, .attr = 0x82};
  s.tr = {.base = 0, .limit = 0xffff, .selector = 0, .attr = 0x8b};
  s.gdtr = s.idtr = {.base = 0, .limit = 0xffff};
  s.cr2 = s.cr3 = s.cr4 = 0;
  s.efer = 0;
  for (u64& pdpte : s.pdpte) pdpte = 0;
  for (u64& dr : s.dr) dr = 0;
  s.dr6 = 0xffff0ff0;
  s.dr7 = 0x400;
  s.sti_shadow = s.mov_ss_shadow = s.nmi_blocked = s.nmi_pending = false;
  s.pending_dbg = 0;
  s.pause_run = 0;
  s.activity = s.msr.apic_base & kApicBootstrap ? Activity::running : Activity::wait_for_sipi;
}

}  // namespace

void reset_cpu(CpuState& state, unsigned index) {
  state = CpuState{};
  state.index = index;
  state.cr0 = cr0bit::CD | cr0bit::NW | cr0bit::ET;
  state.msr.apic_base = 0xfee00000 | kApicEnabled | (index == 0 ? kApicBootstrap : 0);
  state.msr.misc_enable = miscbit::kFastStrings | miscbit::kNoBranchTrace | miscbit::kNoPebs;
  state.msr.microcode_rev = 1;
  state.fpu.ftw = 0xff;  // FTW = 5555h: every register holds +0.0 and none is empty
  set_start_state(state);
}

void init_cpu(CpuState& state) {
  state.cr0 = (state.cr0 & (cr0bit::CD | cr0bit::NW)) | cr0bit::ET;
  set_start_state(state);
}

}  // namespace deja
