// The engine's side of the comparison: one test case as 64-bit user-mode code (CPL 3) of a vCPU, paging on,
// linear memory laid out as test_case.h says, IF = 1, IOPL = 0, CR0.AM = 1, XCR0 = 7, FS and GS bases kFsBase
// and kGsBase. The run ends at the first exception.
#pragma once

#include <memory>
#include <string>

#include "fuzz/test_case.h"

namespace deja::fuzz {

// Ways to run that must not make a difference (docs/determinism.md, rule 3).
enum class EngineMode : u8 {
  plain,        // as a machine runs
  single_step,  // every block one instruction long
  checked,      // every memory access through C++, no direct links
  soft_flags,   // instructions with undefined flags in C++
  fixed_flags,  // the same carried over and their flags mended, as on a host that computes others
  chaos,        // caches flushed, blocks cut, optimisations off at random
};
inline constexpr unsigned kEngineModes = 6;
const char* name_of(EngineMode mode);

// x86-64-v3 with what of its possible features the host has: all that can be compared with the host.
std::string comparable_cpu();

class EngineRunner {
 public:
  // `seed` is for chaos, `cpu` a model that the host can be.
  EngineRunner(EngineMode mode, u64 seed, const std::string& cpu = comparable_cpu());
  ~EngineRunner();
  EngineRunner(const EngineRunner&) = delete;

  // End::timeout: more than kMaxSteps; End::excluded: the vCPU shut down.
  RunResult run(const TestCase& test);
  static constexpr u64 kMaxSteps = 20'000'000;

 private:
  struct Guest;
  std::unique_ptr<Guest> guest_;
};

}  // namespace deja::fuzz
