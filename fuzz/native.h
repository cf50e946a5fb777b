// Runs test cases on the host CPU, in a child process that nothing can damage but itself.
#pragma once

#include <memory>
#include <span>

#include "fuzz/test_case.h"
#include "sandbox/helper_process.h"

namespace deja::fuzz {

struct NativeShared;

// Where the tests' states are for the child: far from anything a test's registers point at, nearly always.
inline constexpr u64 kSharedAddress = 0x600000000000, kSharedSize = 4_MiB;

// The child sits in a signal handler: it loads a test's state by returning from the signal, and the test's
// exception brings it back with the state saved. Handlers run on an alternate stack, a timer ends loops, and
// a seccomp filter refuses system calls from the code pages. A child that dies all the same is replaced.
// Children are forked by a process as old as the runner, so that no test finds what is mapped later, such as
// the engine's pages below 2 GiB: make the runner first.
class NativeRunner {
 public:
  static constexpr unsigned kBatch = 64;

  NativeRunner();
  ~NativeRunner();
  NativeRunner(const NativeRunner&) = delete;

  // At most kBatch tests.
  std::vector<RunResult> run(std::span<const TestCase> tests);

 private:
  void start_child();

  NativeShared* shared_ = nullptr;
  std::unique_ptr<HelperProcess> zygote_;
  int socket_ = -1;
};

}  // namespace deja::fuzz
