// What CPUs do that are not Intel's: as the machine behaves like an Intel core on every host, such a host can
// be asked only about the rest.
#pragma once

#include <vector>

#include "fuzz/test_case.h"

namespace deja::fuzz {

// Indices of the instructions of a test that this host executes as an Intel core does; all of them on an
// Intel host.
std::vector<unsigned> done_alike(const TestCase& test);

// Whether the runs cannot be compared because this host checks otherwise than Intel's cores: the alignment of
// operands before whether there is a page, and before whether the address is canonical; the pages at which
// long x87 operands begin before whether their end is canonical; MXCSR without its bit 17; and whether an
// offset into FS or GS is canonical before the base is added.
bool checks_differ(const TestCase& test, const RunResult& host, const RunResult& engine);

}  // namespace deja::fuzz
