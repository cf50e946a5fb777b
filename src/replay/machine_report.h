// A machine's state as text, for divergence reports.
#pragma once

#include <string>

#include "machine/machine.h"

namespace deja {

// Registers of all vCPUs, with the instruction each stands before.
std::string describe_cpus(Machine& machine);

// "mov rax, [rbx]" at vCPU `i`'s CS:RIP, or why it cannot be told. May set A bits of page tables.
std::string next_instruction(Machine& machine, unsigned i);

// What differs between two machines, one difference a line, at most `limit` lines of each sort: registers,
// RAM, devices.
std::string describe_differences(Machine& a, Machine& b, unsigned limit);

}  // namespace deja
