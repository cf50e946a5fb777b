// The address spaces in which a guest's kernel is to be looked for.
#pragma once

#include <vector>

#include "timeline/guest_view.h"

namespace deja {

// Those of the vCPUs that are alive, first that of the one whose turn it is. A vCPU that a kernel has left
// behind, after a panic or a kexec, is halted with interrupts off, and still has that kernel's page tables:
// it is not among them. Of a vCPU in user mode there are two, for with page-table isolation a process has a
// page table of its own behind that of the kernel.
std::vector<GuestView> living_spaces(const Machine& machine);

}  // namespace deja
