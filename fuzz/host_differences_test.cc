#include "fuzz/host_differences.h"

#include <gtest/gtest.h>

#include <cstring>

#include "fuzz/compare.h"
#include "fuzz/engine_adapter.h"
#include "fuzz/native.h"
#include "guest/fault.h"

namespace deja::fuzz {
namespace {

// The operand of each is kDataAddress + 0x410.
const Bytes kLoads[] = {
    {0x0f, 0xae, 0x13},                                      // ldmxcsr [rbx]
    {0xc5, 0xf8, 0xae, 0x13},                                // vldmxcsr [rbx]
    {0x64, 0x0f, 0xae, 0x54, 0x4d, 0xf0},                    // ldmxcsr fs:[rbp+rcx*2-16]
    {0x67, 0x0f, 0xae, 0x14, 0x25, 0x10, 0x04, 0x00, 0x20},  // ldmxcsr [eiz+20000410h]
    {0x0f, 0xae, 0x15, 0x09, 0x04, 0x00, 0x10},              // ldmxcsr [rip+10000409h]
};

TestCase load_mxcsr(const Bytes& insn, u32 mxcsr) {
  TestCase t;
  t.insns = {insn};
  t.initial.rip = t.start;
  t.initial.gpr[RBX] = kDataAddress + 0x410;
  t.initial.gpr[RBP] = 0x10;
  t.initial.gpr[RCX] = 8;
  std::memcpy(&t.data[0x410], &mxcsr, sizeof mxcsr);
  return t;
}

class HostDifferences : public testing::Test {
 protected:
  NativeRunner native_;
  EngineRunner engine_{EngineMode::plain, 1};
};

TEST_F(HostDifferences, MisalignedMaskIsReserved) {
  for (const Bytes& insn : kLoads) {
    const TestCase t = load_mxcsr(insn, 0x21f80);
    SCOPED_TRACE(disassembly(t));
    const RunResult host = native_.run({&t, 1})[0], engine = engine_.run(t);
    EXPECT_EQ(engine.end, End::fault);
    EXPECT_EQ(engine.vector, kGP);
    // Not compared exactly where the host has taken it.
    EXPECT_EQ(checks_differ(t, host, engine), host.end == End::sentinel);
  }
}

TEST_F(HostDifferences, OtherMxcsrAreCompared) {
  for (const Bytes& insn : kLoads)
    for (const u32 mxcsr : {0x1f80, 0xffff, 0x10000, 0x30000, 0x60000}) {
      const TestCase t = load_mxcsr(insn, mxcsr);
      SCOPED_TRACE(disassembly(t));
      const RunResult host = native_.run({&t, 1})[0], engine = engine_.run(t);
      EXPECT_EQ(differences(t, host, engine, "host", "engine"), "");
      RunResult wrong = engine;
      wrong.end = End::fault, wrong.vector = kGP, wrong.state.rip = t.start;
      EXPECT_FALSE(checks_differ(t, host, wrong));
    }
}

// The operand ends beyond the canonical addresses: #SS for a stack operand, #GP for another.
TEST_F(HostDifferences, PagesBeforeEndsOfLongOperands) {
  for (const u8 modrm : {0x20, 0x65, 0x23, 0x63}) {
    TestCase t = load_mxcsr({0xdd, modrm, 0xc7}, 0);  // frstor [rax], [rbp-57], [rbx], [rbx-57]
    if (modrm < 0x40) t.insns[0].pop_back();
    t.initial.gpr[RAX] = t.initial.gpr[RBX] = t.initial.gpr[RBP] = 0x7fffffffffff;
    SCOPED_TRACE(disassembly(t));
    const RunResult host = native_.run({&t, 1})[0], engine = engine_.run(t);
    EXPECT_TRUE(checks_differ(t, host, engine) || differences(t, host, engine, "host", "engine").empty());
  }
}

}  // namespace
}  // namespace deja::fuzz
