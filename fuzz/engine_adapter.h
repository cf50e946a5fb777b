// The engine's side of the comparison: one test case as 64-bit user-mode code (CPL 3) of a vCPU, paging on,
// linear memory laid out as test_case.h says, IF = 1, IOPL = 0, CR0.AM = 1, XCR0 = 7, FS and GS bases kFsBase
// and kGsBase. The run ends at the first exception.
#pragma once

#include "fuzz/test_case.h"

namespace deja::fuzz {

RunResult run_in_engine(const TestCase& test);

}  // namespace deja::fuzz
