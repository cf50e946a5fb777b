#include "execute/host/host_cpu.h"

#include <cpuid.h>

namespace deja {

bool host_has(const CpuFeature& feature) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  // SDM vol. 2A "CPUID", leaf 7.
  return ebx >> (feature.has == &CpuModel::adx ? 19 : 29) & 1;
}

Status check_host_features(const CpuModel& model, HostFeatures host) {
  for (const CpuFeature& f : kCpuFeatures)
    if (model.*f.has && !host(f))
      return make_error(
          "the CPU model {} has {}, which this host's CPU lacks ({} in /proc/cpuinfo): record without +{}, "
          "and "
          "replay what was recorded with it on a host that has it",
          model.name, f.name, f.cpuinfo, f.name);
  return {};
}

}  // namespace deja
