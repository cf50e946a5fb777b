// What CPUs do that are not Intel's: as the machine behaves like an Intel core on every host, such a host can
// be asked only about the rest.
#pragma once

#include <vector>

#include "fuzz/test_case.h"

namespace deja::fuzz {

// Indices of the instructions of a test that this host executes as an Intel core does; all of them on an
// Intel host.
std::vector<unsigned> done_alike(const TestCase& test);

// Whether the runs cannot be compared because this host, unlike Intel's cores, checks the alignment of AVX
// operands too, and before it looks whether there is a page.
bool alignment_differs(const RunResult& host, const RunResult& engine);

}  // namespace deja::fuzz
