// The guest's memory and CPUs as files for other tools: an ELF core as kdump writes it, which `crash` and
// drgn load, or plain RAM.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/machine.h"

namespace deja {

struct VmcoreReport {
  u64 bytes = 0;  // of the file; pages of zeros are holes in it
  // The release of the Linux that runs there; empty: none was found, so there is no VMCOREINFO note.
  std::string osrelease;
};

// `file` must not exist. On an error nothing is left of it. `running`: the PID of the thread that each vCPU
// runs, as far as that is known; tools take a vCPU's registers for those of that thread.
Result<VmcoreReport> write_vmcore(const Machine& machine, const std::vector<u32>& running,
                                  const std::filesystem::path& file);

// RAM by physical address, the hole below 4 GiB included.
Result<VmcoreReport> write_raw_memory(const Machine& machine, const std::filesystem::path& file);

// What the Linux that runs at this moment left for tools like these: the page that begins with OSRELEASE=.
// Empty: not found, or not written yet.
std::string find_vmcoreinfo(const Machine& machine);

}  // namespace deja
