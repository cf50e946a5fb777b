// Where a recording was made, for people: no replay looks at it.
#pragma once

#include <string>

#include "base/types.h"

namespace deja {

struct HostInfo {
  std::string
      cpu;  // its name and, as CPUID numbers it, its make: "AMD EPYC; AuthenticAMD family 25 model 17 …"
  std::string kernel;  // uname -sr
  u32 cpus = 0;
  bool operator==(const HostInfo&) const = default;
};

// Opens no file, so that a recording which begins inside the sandbox has it too.
HostInfo this_host();

}  // namespace deja
