#include <random>

#include "semantics/vcpu_for_test.h"

namespace deja {
namespace {

constexpr u8 kRep = 0xf3, kRepne = 0xf2;

class StringOps : public HelperTest {
 protected:
  std::optional<GuestFault> run(std::initializer_list<u8> code) {
    return HelperTest::run(find_string_helper, code);
  }
  // Runs a REP to its end; the number of steps.
  int run_all(std::initializer_list<u8> code) {
    int steps = 0;
    do {
      EXPECT_FALSE(run(code).has_value());
      ++steps;
    } while (again() && steps < 100000);
    return steps;
  }
  void set(u64 rsi, u64 rdi, u64 rcx) {
    state.gpr[RSI] = rsi;
    state.gpr[RDI] = rdi;
    state.gpr[RCX] = rcx;
  }
  void fill_random(unsigned seed) {
    std::mt19937 rng(seed);
    for (u8& b : mmu.bytes) b = static_cast<u8>(rng());
  }
};

TEST_F(StringOps, SseInstructionsOfTheSameNameAreOthers) {
  EXPECT_FALSE(find_string_helper(decoded({0xf2, 0x0f, 0x10, 0xc1})));        // MOVSD xmm0, xmm1
  EXPECT_FALSE(find_string_helper(decoded({0xf2, 0x0f, 0xc2, 0xc1, 0x00})));  // CMPSD xmm0, xmm1, 0
  EXPECT_TRUE(find_string_helper(decoded({0xa5})));
}

TEST_F(StringOps, SingleMoveAdvancesByElement) {
  fill_random(1);
  set(0x1000, 0x2000, 55);
  ASSERT_FALSE(run({0x48, 0xa5}).has_value());
  EXPECT_EQ(state.gpr[RSI], 0x1008u);
  EXPECT_EQ(state.gpr[RDI], 0x2008u);
  EXPECT_EQ(state.gpr[RCX], 55u);
  EXPECT_FALSE(again());
  EXPECT_EQ(std::memcmp(&mmu.bytes[0x1000], &mmu.bytes[0x2000], 8), 0);
}

TEST_F(StringOps, RepIsCutAtPageEndsOfEitherOperand) {
  fill_random(2);
  const std::vector<u8> before = mmu.bytes;
  set(0x1ff0, 0x4100, 0x2000);
  // Source pages end after 10h and 1010h bytes, destination pages after F00h and 1F00h.
  const u64 rest[] = {0x1ff0, 0x1100, 0xff0, 0x100, 0};
  for (const u64 left : rest) {
    ASSERT_FALSE(run({kRep, 0xa4}).has_value());
    EXPECT_EQ(state.gpr[RCX], left);
    EXPECT_EQ(again(), left != 0);
  }
  EXPECT_EQ(std::memcmp(&mmu.bytes[0x4100], &before[0x1ff0], 0x2000), 0);
}

TEST_F(StringOps, AnElementThatCrossesIsAPieceOfItsOwn) {
  fill_random(3);
  set(0x1000, 0x2ff4, 4);  // quadwords at 2FF4, 2FFC (crosses), 3004, 300C
  EXPECT_EQ(run_all({kRep, 0x48, 0xa5}), 3);
  EXPECT_EQ(std::memcmp(&mmu.bytes[0x1000], &mmu.bytes[0x2ff4], 32), 0);
  state.rflags |= flag::DF;
  set(0x1018, 0x500c, 4);  // downwards: 500C, 5004, 4FFC (crosses), 4FF4
  EXPECT_EQ(run_all({kRep, 0x48, 0xa5}), 3);
  EXPECT_EQ(std::memcmp(&mmu.bytes[0x1000], &mmu.bytes[0x4ff4], 32), 0);
  EXPECT_EQ(state.gpr[RDI], 0x4fecu);
}

TEST_F(StringOps, RepWithCountZeroIsOneStep) {
  set(0x1111, 0xfffff000, 0);
  ASSERT_FALSE(run({kRep, 0xa4}).has_value());
  EXPECT_FALSE(again());
  EXPECT_EQ(state.gpr[RSI], 0x1111u);
  // 32-bit addresses: only ECX counts, and the registers are zero-extended as hardware does.
  set(0xaa'00001111, 0xbb'00002222, 0xcc'00000000);
  ASSERT_FALSE(run({0x67, kRep, 0xa4}).has_value());
  EXPECT_EQ(state.gpr[RSI], 0x1111u);
  EXPECT_EQ(state.gpr[RDI], 0x2222u);
  EXPECT_EQ(state.gpr[RCX], 0u);
}

// Every distance, size and direction against a plain loop over elements, in all page kinds.
TEST_F(StringOps, OverlappingMovesActElementByElement) {
  for (const PageKind kind : {PageKind::ram, PageKind::tracked, PageKind::mmio}) {
    mmu.kinds.clear();
    for (u64 page = 1; page < 8; ++page) mmu.kinds[page] = kind;
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      for (const bool down : {false, true}) {
        for (int distance = -20; distance <= 20; ++distance) {
          fill_random(7);
          std::vector<u8> expected = mmu.bytes;
          const u64 count = 37, source = 0x3fa0;
          const u64 destination = source + static_cast<u64>(static_cast<i64>(distance));
          for (u64 i = 0; i < count; ++i) {
            const u64 at = (down ? -i : i) * size;
            u64 element;
            std::memcpy(&element, &expected[source + at], size);
            std::memcpy(&expected[destination + at], &element, size);
          }
          set(source, destination, count);
          state.rflags = down ? flag::DF | 2 : 2;
          if (size == 1) run_all({kRep, 0xa4});
          if (size == 2) run_all({0x66, kRep, 0xa5});
          if (size == 4) run_all({kRep, 0xa5});
          if (size == 8) run_all({kRep, 0x48, 0xa5});
          ASSERT_EQ(mmu.bytes, expected) << "size " << size << " distance " << distance << " down " << down;
          ASSERT_EQ(state.gpr[RSI], source + (down ? -count : count) * size);
          ASSERT_EQ(state.gpr[RCX], 0u);
        }
      }
    }
  }
}

TEST_F(StringOps, FaultsLeaveCompletedElements) {
  mmu.kinds[3] = PageKind::read_only;
  set(0x1000, 0x2f00, 0x200);
  ASSERT_FALSE(run({kRep, 0xa4}).has_value());
  EXPECT_EQ(state.gpr[RCX], 0x100u);
  const std::optional<GuestFault> fault = run({kRep, 0xa4});
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->vector, kPF);
  EXPECT_EQ(fault->cr2, 0x3000u);
  EXPECT_EQ(state.gpr[RCX], 0x100u);
  EXPECT_EQ(state.gpr[RSI], 0x1100u);
  EXPECT_EQ(state.gpr[RDI], 0x3000u);
}

TEST_F(StringOps, TheSourceFaultsFirst) {
  mmu.kinds[2] = PageKind::absent;
  mmu.kinds[3] = PageKind::absent;
  set(0x2000, 0x3000, 1);
  EXPECT_EQ(run({0xa4})->cr2, 0x2000u);
}

TEST_F(StringOps, SegmentLimitEndsAPiece) {
  set_legacy_mode(CodeSize::bits32);
  state.seg[ES] = {0x1000, 0x7ff, 0x10, 0x4093};
  state.gpr[RAX] = 0xab;
  set(0, 0x7f0, 0x20);
  ASSERT_FALSE(run({kRep, 0xaa}).has_value());
  EXPECT_EQ(state.gpr[RCX], 0x10u);
  EXPECT_EQ(mmu.bytes[0x17ff], 0xab);
  EXPECT_EQ(mmu.bytes[0x1800], 0);
  EXPECT_FAULT(run({kRep, 0xaa}), kGP);
  EXPECT_EQ(state.gpr[RCX], 0x10u);
}

TEST_F(StringOps, ExpandDownSegmentEndsAPieceGoingDown) {
  set_legacy_mode(CodeSize::bits32);
  state.seg[ES] = {0, 0xfff, 0x10, 0x4097};  // valid offsets are above FFFh
  state.rflags |= flag::DF;
  set(0, 0x1003, 8);
  ASSERT_FALSE(run({kRep, 0xaa}).has_value());
  EXPECT_EQ(state.gpr[RCX], 4u);
  EXPECT_FAULT(run({kRep, 0xaa}), kGP);
}

TEST_F(StringOps, SixteenBitOffsetsWrap) {
  set_legacy_mode(CodeSize::bits16);
  state.seg[ES].base = state.seg[DS].base = 0;
  state.seg[ES].limit = 0xffff;
  set(0, 0xabcd'fffe, 0x1234'0004);
  state.gpr[RAX] = 0x77;
  EXPECT_EQ(run_all({kRep, 0xaa}), 2);
  EXPECT_EQ(mmu.bytes[0xffff], 0x77);
  EXPECT_EQ(mmu.bytes[1], 0x77);
  EXPECT_EQ(mmu.bytes[2], 0);
  EXPECT_EQ(state.gpr[RDI], 0xabcd'0002u);
  EXPECT_EQ(state.gpr[RCX], 0x1234'0000u);
}

TEST_F(StringOps, SegmentOverrideAppliesToTheSource) {
  state.seg[FS].base = 0x4000;
  mmu.bytes[0x4010] = 0x5a;
  set(0x10, 0x20, 1);
  ASSERT_FALSE(run({0x64, 0xa4}).has_value());
  EXPECT_EQ(mmu.bytes[0x20], 0x5a);
}

TEST_F(StringOps, StoreFillsWithEverySize) {
  state.gpr[RAX] = 0x8877665544332211;
  set(0, 0x1003, 5);
  run_all({0x66, kRep, 0xab});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(mmu.bytes[0x1003 + 2 * i] | mmu.bytes[0x1004 + 2 * i] << 8, 0x2211);
  EXPECT_EQ(mmu.bytes[0x100d], 0);
  set(0, 0x2003, 3);
  run_all({kRep, 0xab});
  u32 last;
  std::memcpy(&last, &mmu.bytes[0x200b], 4);
  EXPECT_EQ(last, 0x44332211u);
  EXPECT_EQ(mmu.bytes[0x200f], 0);
}

TEST_F(StringOps, LoadKeepsTheLastElement) {
  fill_random(9);
  state.gpr[RAX] = ~u64{0};
  set(0x1000, 0, 3);
  run_all({kRep, 0xac});
  EXPECT_EQ(state.gpr[RAX], 0xffffffffffffff00 | mmu.bytes[0x1002]);
  ASSERT_FALSE(run({0xad}).has_value());
  EXPECT_EQ(state.gpr[RAX] >> 32, 0u);
  mmu.kinds[5] = PageKind::mmio;
  set(0x5000, 0, 4);
  run_all({kRep, 0xad});
  EXPECT_EQ(mmu.mmio_accesses.size(), 4u);
}

// Flags and stops against the host's own instructions.
TEST_F(StringOps, ComparesAgreeWithTheHost) {
  std::mt19937_64 rng(20);
  for (int round = 0; round < 4000; ++round) {
    alignas(64) u8 a[64], b[64];
    const bool similar = rng() & 1;
    for (int i = 0; i < 64; ++i) {
      a[i] = static_cast<u8>(rng() & (similar ? 1 : 0xff));
      b[i] = rng() % 8 ? a[i] : static_cast<u8>(rng());
    }
    const u64 count = rng() % 8, base = 0x2ff8 - (rng() % 2) * 0x500;
    std::memcpy(&mmu.bytes[base], a, 64);
    std::memcpy(&mmu.bytes[0x6fe0], b, 64);
    u64 rcx = count, rsi = reinterpret_cast<u64>(a), rdi = reinterpret_cast<u64>(b), flags = 2;
    const u64 rax = rng() & 0x0101010101010101;
    u64 rax2 = rax;
    set(base, 0x6fe0, count);
    state.gpr[RAX] = rax;
    state.rflags = 2;
#define DEJA_NATIVE(instruction, ...)                                                       \
  asm volatile("push %4; popf; " instruction "; pushf; pop %4"                              \
               : "+c"(rcx), "+S"(rsi), "+D"(rdi), "+a"(rax2), "+r"(flags)::"memory", "cc"); \
  run_all({__VA_ARGS__})
    switch (rng() % 8) {
      case 0:
        DEJA_NATIVE("repe cmpsb", 0xf3, 0xa6);
        break;
      case 1:
        DEJA_NATIVE("repne cmpsb", 0xf2, 0xa6);
        break;
      case 2:
        DEJA_NATIVE("repe cmpsw", 0x66, 0xf3, 0xa7);
        break;
      case 3:
        DEJA_NATIVE("repe cmpsq", 0xf3, 0x48, 0xa7);
        break;
      case 4:
        DEJA_NATIVE("cmpsl", 0xa7);
        break;
      case 5:
        DEJA_NATIVE("repne scasb", 0xf2, 0xae);
        break;
      case 6:
        DEJA_NATIVE("repe scasw", 0x66, 0xf3, 0xaf);
        break;
      case 7:
        DEJA_NATIVE("scasq", 0x48, 0xaf);
        break;
    }
    ASSERT_EQ(state.gpr[RCX], rcx);
    ASSERT_EQ(state.gpr[RSI] - base, rsi - reinterpret_cast<u64>(a));
    ASSERT_EQ(state.gpr[RDI] - 0x6fe0, rdi - reinterpret_cast<u64>(b));
    ASSERT_EQ(state.rflags & flag::kStatus, flags & flag::kStatus);
  }
}

TEST_F(StringOps, ScanStopsAndDoesNotRunAgain) {
  mmu.bytes[0x1005] = 9;
  state.gpr[RAX] = 9;
  set(0, 0x1000, 0x3000);
  ASSERT_FALSE(run({kRepne, 0xae}).has_value());
  EXPECT_FALSE(again());
  EXPECT_EQ(state.gpr[RDI], 0x1006u);
  EXPECT_EQ(state.gpr[RCX], 0x3000u - 6);
  EXPECT_TRUE(state.rflags & flag::ZF);
}

TEST_F(StringOps, PortStringsDoOneElementPerStep) {
  platform.to_read = {0x11, 0x22, 0x33};
  state.gpr[RDX] = 0x3f8;
  set(0, 0x1000, 3);
  EXPECT_EQ(run_all({kRep, 0x6c}), 3);
  EXPECT_EQ(mmu.bytes[0x1001], 0x22);
  set(0x1000, 0, 2);
  EXPECT_EQ(run_all({kRep, 0x6e}), 2);
  ASSERT_EQ(platform.written.size(), 2u);
  EXPECT_EQ(platform.written[1], (std::pair<u16, u32>{0x3f8, 0x22}));
}

TEST_F(StringOps, ResumeFlagIsSetBetweenPieces) {
  set(0x1ff0, 0x4100, 0x20);
  ASSERT_FALSE(run({kRep, 0xa4}).has_value());
  ASSERT_TRUE(again());
  EXPECT_TRUE(state.rflags & flag::RF) << "what interrupts a REP finds it set";
  state.rflags &= ~flag::RF;  // as the run loop does before each step
  ASSERT_FALSE(run({kRep, 0xa4}).has_value());
  EXPECT_FALSE(again());
  EXPECT_FALSE(state.rflags & flag::RF);
}

TEST_F(StringOps, DataBreakpointsAndSingleStepTrapAfterEachIteration) {
  set(0x1000, 0x2000, 4);
  state.dr7 = 0x400 | 1 | 1 << 16;  // L0, writes
  EXPECT_EQ(run_all({kRep, 0xa4}), 4);
  set(0x1000, 0x2000, 4);
  state.dr7 = 0x400 | 1;  // execution only
  EXPECT_EQ(run_all({kRep, 0xa4}), 1);
  set(0x1000, 0x2000, 4);
  state.rflags |= flag::TF;
  EXPECT_EQ(run_all({kRep, 0xa4}), 4);
}

TEST_F(StringOps, PortStringsMeetIoBreakpoints) {
  state.cr4 |= cr4bit::DE;
  state.dr[2] = 0x3f8;
  state.dr7 = 0x400 | 1 << 4 | 2 << 24;  // L2, I/O
  state.gpr[RDX] = 0x3f8;
  set(0x1000, 0x2000, 0);
  ASSERT_FALSE(run({0x6e}).has_value());
  EXPECT_EQ(state.pending_dbg, 4u);
  state.pending_dbg = 0;
  ASSERT_FALSE(run({0x6c}).has_value());
  EXPECT_EQ(state.pending_dbg, 4u);
  state.pending_dbg = 0;
  mmu.kinds[2] = PageKind::absent;
  set(0, 0x2000, 0);
  EXPECT_FAULT(run({0x6c}), kPF);
  EXPECT_EQ(state.pending_dbg, 0u) << "no port was read";
}

TEST_F(StringOps, PortIsNotReadWhenTheStoreWouldFault) {
  platform.to_read = {1};
  mmu.kinds[1] = PageKind::read_only;
  set(0, 0x1000, 1);
  EXPECT_FAULT(run({0x6c}), kPF);
  EXPECT_EQ(platform.to_read.size(), 1u);
}

TEST_F(StringOps, PortStringsNeedIoPermission) {
  for (SegmentRegister& s : state.seg) s.attr |= 0x60;
  set(0, 0x1000, 1);
  EXPECT_FAULT(run({0x6c}), kGP);
  state.gpr[RCX] = 0;
  EXPECT_FALSE(run({kRep, 0x6c}).has_value());
}

}  // namespace
}  // namespace deja
