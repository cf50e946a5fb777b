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

// A masked move's element behind 4 GiB, with 32-bit addresses: AMD's wraps to 0 when it faults.
TEST_F(HostDifferences, ElementsOfMaskedMovesGoOnBehind4GiB) {
  for (const u8 opcode : {0x2c, 0x2e, 0x8c, 0x8e}) {  // vmaskmovps and vpmaskmovd, load and store
    TestCase t;
    t.insns = {{0x67, 0xc4, 0xe2, 0x55, opcode, 0x53, 0xe2}};  // ymm2, mask ymm5, [ebx-1Eh]
    t.initial.rip = t.start;
    t.initial.gpr[RBX] = 0x12;
    constexpr u32 kFourth = 1u << 31;  // the first three would be below
    std::memcpy(&t.initial.fpu.ymm[5][12], &kFourth, sizeof kFourth);
    SCOPED_TRACE(disassembly(t));
    const RunResult host = native_.run({&t, 1})[0], engine = engine_.run(t);
    EXPECT_EQ(engine.vector, kPF);
    EXPECT_EQ(engine.cr2, 4_GiB);
    EXPECT_EQ(done_alike(t).empty(), !__builtin_cpu_is("intel"));
    if (done_alike(t).empty()) continue;
    EXPECT_EQ(differences(t, host, engine, "host", "engine"), "");
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

// Their operands' offsets are what the test sets.
const Bytes kSegmentAccesses[] = {
    {0x64, 0x8b, 0x08},                    // mov ecx, fs:[rax]
    {0x65, 0x48, 0x89, 0x08},              // mov gs:[rax], rcx
    {0x64, 0x0f, 0x38, 0xf1, 0x20},        // movbe fs:[rax], esp
    {0x65, 0x0f, 0x10, 0x00},              // movups xmm0, gs:[rax]
    {0x64, 0xdd, 0x00},                    // fld qword fs:[rax]
    {0x65, 0xf0, 0x48, 0x0f, 0xc7, 0x08},  // lock cmpxchg16b gs:[rax]
    {0x64, 0xac},                          // lodsb fs:[rsi]
    {0x65, 0xa5},                          // movsd [rdi], gs:[rsi]
    {0x64, 0xf3, 0x48, 0xad},              // rep lodsq fs:[rsi]
    {0x65, 0xd7},                          // xlatb gs:[rbx+al]
    {0x65, 0xff, 0x20},                    // jmp gs:[rax]
    {0x64, 0x41, 0xff, 0x74, 0x24, 0x00},  // push fs:[r12+0]
};

// With the base added, the first two offsets are canonical addresses of the kernel's half.
TEST_F(HostDifferences, OffsetsBeforeSegmentBases) {
  for (const Bytes& insn : kSegmentAccesses)
    for (const u64 offset :
         {0xffff7ffffffff000ul, 0xffff7ffff0000000ul, 0xffff800000000000ul, 0x7fffffffff00ul}) {
      TestCase t = load_mxcsr(insn, 0);
      for (const unsigned reg : {RAX, RSI, R12}) t.initial.gpr[reg] = offset;
      t.initial.gpr[RBX] = offset - (offset & 0xff);  // of XLAT, with AL
      t.initial.gpr[RDI] = kDataAddress;
      SCOPED_TRACE(disassembly(t));
      const RunResult host = native_.run({&t, 1})[0], engine = engine_.run(t);
      EXPECT_EQ(engine.vector, offset >> 63 ? kPF : kGP);
      // Not compared exactly where the host looked at the offset alone.
      EXPECT_EQ(checks_differ(t, host, engine), host.vector != engine.vector);
      EXPECT_TRUE(host.vector == engine.vector || offset < 0xffff800000000000);
    }
}

}  // namespace
}  // namespace deja::fuzz
