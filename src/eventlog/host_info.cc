#include "eventlog/host_info.h"

#include <cpuid.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace deja {
namespace {

using Regs = std::array<u32, 4>;  // EAX, EBX, ECX, EDX

Regs host_cpuid(u32 leaf) {
  Regs r{};
  // A leaf beyond the CPU's last one leaves zeros.
  __get_cpuid(leaf, &r[0], &r[1], &r[2], &r[3]);
  return r;
}

std::string text_of(const Regs& regs) {
  return std::string(reinterpret_cast<const char*>(regs.data()), sizeof regs);
}

// SDM vol. 2A, CPUID: leaves 80000002h to 80000004h hold the name, padded with zeros or blanks.
std::string brand() {
  std::string name;
  for (const u32 leaf : {0x80000002u, 0x80000003u, 0x80000004u}) name += text_of(host_cpuid(leaf));
  name.resize(std::strlen(name.c_str()));
  const std::size_t first = name.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return name.substr(first, name.find_last_not_of(' ') - first + 1);
}

// Leaves 0 (vendor, in EBX, EDX, ECX) and 1 (signature). Extended family and model count where the SDM says
// so.
std::string make() {
  const Regs vendor = host_cpuid(0);
  const u32 signature = host_cpuid(1)[0];
  const u32 base_family = signature >> 8 & 15;
  const u32 family = base_family == 15 ? base_family + (signature >> 20 & 0xff) : base_family;
  const bool extended_model = base_family == 6 || base_family == 15;
  const u32 model = (signature >> 4 & 15) | (extended_model ? signature >> 12 & 0xf0 : 0);
  return fmt::format("{} family {} model {} stepping {}",
                     text_of({vendor[1], vendor[3], vendor[2], 0}).substr(0, 12), family, model,
                     signature & 15);
}

}  // namespace

HostInfo this_host() {
  HostInfo h;
  h.cpu = fmt::format("{}; {}", brand(), make());
  utsname u{};
  if (::uname(&u) == 0) h.kernel = fmt::format("{} {}", u.sysname, u.release);
  h.cpus = static_cast<u32>(::sysconf(_SC_NPROCESSORS_ONLN));
  return h;
}

}  // namespace deja
