// The CPU that guests see: fixed, named models. Nothing of the host's CPUID passes through.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "guest/canonical.h"

namespace deja {

// IA32_MISC_ENABLE (SDM vol. 4 table 2-2): the bits that have an effect, or are read-only and set.
namespace miscbit {
inline constexpr u64 kFastStrings = 1 << 0, kNoBranchTrace = 1 << 11, kNoPebs = 1 << 12,
                     kLimitCpuid = 1 << 22, kNoExecuteDisable = u64{1} << 34;
}

struct CpuidRegs {
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

struct CpuModel {
  // As it is written to the manifest: "x86-64-v3" or "x86-64-v2", then its features, in kCpuFeatures' order:
  // "x86-64-v3,+adx,+sha-ni".
  std::string name;
  bool avx = false;  // AVX, AVX2, FMA, F16C, BMI1/2, LZCNT, MOVBE: the v3 group
  bool adx = false;  // ADCX, ADOX
  bool sha = false;  // SHA1 and SHA256 instructions
  u64 tsc_hz = 1'000'000'000;
  u64 crystal_hz = 25'000'000;
  unsigned physical_bits = 40;
  unsigned linear_bits = kLinearBits;
};

// What may be added to a model: instructions that the host executes, which therefore must have them.
struct CpuFeature {
  std::string_view name;     // as QEMU has it
  std::string_view cpuinfo;  // as /proc/cpuinfo has it
  bool CpuModel::*has;
};
inline constexpr CpuFeature kCpuFeatures[] = {
    {"adx", "adx", &CpuModel::adx},
    {"sha-ni", "sha_ni", &CpuModel::sha},
};

// A model by what is given to --cpu, which is QEMU's spelling: its name, then ",+FEATURE", ",-FEATURE",
// ",FEATURE=on" or ",FEATURE=off" in any order; the last word about a feature counts.
Result<CpuModel> parse_cpu_model(std::string_view text);
// Names of all models and of all features, separated by spaces, for messages.
std::string_view cpu_model_names();
std::string cpu_feature_names();

// CPUID as executed by this vCPU: depends on the model, the leaf/subleaf, vCPU index and count, and the state
// bits that CPUID reflects (CR4.OSXSAVE, XCR0, APIC base enable).
CpuidRegs cpuid(const CpuModel& model, const CpuState& state, unsigned vcpu_count, u32 leaf, u32 subleaf);

// Puts `state` into the state after power-on RESET (SDM vol. 3A table 10-1), as vCPU `index`; the application
// processors come up in wait_for_sipi.
void reset_cpu(CpuState& state, unsigned index);
// INIT: as reset, but keeps x87/SSE, MSRs, CR0.CD/NW and TSC (SDM vol. 3A table 10-1).
void init_cpu(CpuState& state);

}  // namespace deja
