#include "fuzz/native.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "guest/fault.h"

namespace deja::fuzz {
namespace {

TestCase test_of(const Bytes& insn) {
  TestCase t;
  t.insns = {insn};
  t.initial.rip = t.start;
  return t;
}

TestCase read_byte(u64 address) {
  TestCase t = test_of({0x8a, 0x03});  // mov al, [rbx]
  t.initial.gpr[RBX] = address;
  return t;
}

// Overwrites the next test of the batch, so that the child faults while it prepares that.
TestCase kill_child() {
  TestCase t = test_of({0xf3, 0xaa});  // rep stosb
  t.initial.gpr[RAX] = 0xff;
  t.initial.gpr[RCX] = 0x8000;
  t.initial.gpr[RDI] = kSharedAddress;
  return t;
}

// Waits for all processes below this one, whoever forked them; their number.
int wait_for_all() {
  int count = 0;
  while (waitpid(-1, nullptr, 0) > 0) ++count;
  EXPECT_EQ(errno, ECHILD);
  return count;
}

TEST(NativeRunner, ChildrenHaveNoPagesMadeAfterIt) {
  NativeRunner runner;
  constexpr u64 kLater = 0x7fff0000;
  void* const page = mmap(reinterpret_cast<void*>(kLater), kPageSize, PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  ASSERT_EQ(page, reinterpret_cast<void*>(kLater));
  for (int round = 0; round < 3; ++round) {
    const TestCase tests[] = {kill_child(), test_of({0x90}), read_byte(kLater), read_byte(kDataAddress)};
    const std::vector<RunResult> results = runner.run(tests);
    EXPECT_EQ(results[1].end, End::excluded);
    EXPECT_EQ(results[2].end, End::fault);
    EXPECT_EQ(results[2].vector, kPF);
    EXPECT_EQ(results[2].cr2, kLater);
    EXPECT_EQ(results[3].end, End::sentinel);
  }
  munmap(page, kPageSize);
}

TEST(NativeRunner, ChildrenHaveNoStack) {
  NativeRunner runner;
  const u64 stack = reinterpret_cast<u64>(&runner);
  const TestCase tests[] = {read_byte(stack), read_byte(stack - 1_MiB)};
  for (const RunResult& r : runner.run(tests)) {
    EXPECT_EQ(r.end, End::fault);
    EXPECT_EQ(r.vector, kPF);
  }
}

TEST(NativeRunner, LeavesNoProcesses) {
  // Orphans below become children of this process.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  {
    NativeRunner runner;
    const TestCase tests[] = {kill_child(), test_of({0x90})};
    runner.run(tests);
  }
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(NativeRunner, LeavesNoProcessesWhenKilled) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
  const pid_t user = fork();
  ASSERT_GE(user, 0);
  if (user == 0) {
    NativeRunner runner;
    raise(SIGKILL);
  }
  EXPECT_EQ(wait_for_all(), 3);  // it, the process that forks children, and a child
}

}  // namespace
}  // namespace deja::fuzz
