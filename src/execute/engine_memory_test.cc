// Linear addresses of helpers and of the processor itself: an access means the same with an empty TLB and
// with a full one, in compatibility mode too.
#include <algorithm>

#include "execute/engine.h"
#include "semantics/vcpu_for_test.h"

namespace deja {
namespace {

// Physical memory. The tables map linear 0-2 MiB and the 2 MiB below 4 GiB for user code, the latter to the
// same memory; the 2 MiB below the end of the lower half; and for the supervisor, from kUpper on, all of it.
constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kLastPdpt = 0x4000, kLastPd = 0x5000,
              kUpperPdpt = 0x6000, kUpperPd = 0x7000, kGdt = 0x8000, kTss = 0x9000, kIdt = 0xa000,
              kHandler = 0xb000, kKernelStack = 0x10000, kUserStack = 0x12000, kCode = 0x20000,
              kData = 0x30000, kLastPage = 0x1ff000;
constexpr u64 kUpper = 0xffff888040000000;  // its low 32 bits are mapped nowhere
constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kLarge = 1 << 7;
constexpr u16 kKernelCs = 0x08, kUserCs32 = 0x13, kUserDs = 0x1b, kUserCs64 = 0x23;
constexpr u64 kKernelCode = 0x00af9b000000ffff, kUserCode32 = 0x00cffb000000ffff,
              kUserData = 0x00cff3000000ffff, kUserCode64 = 0x00affb000000ffff;

SegmentRegister segment(u16 selector, u64 descriptor, u64 base = 0) {
  return {.base = base,
          .limit = 0xffffffff,
          .selector = selector,
          .attr = static_cast<u16>(descriptor >> 40 & 0xf0ff)};
}

enum class Tlb { empty, warm };

class EngineMemory : public ::testing::TestWithParam<Tlb> {
 protected:
  EngineMemory() : ram_(std::move(*GuestRam::create(2_MiB))) {
    auto engine = Engine::create(*ram_, platform_, clock_, model_, 1, {});
    EXPECT_TRUE(engine.ok());
    engine_ = std::move(*engine);
    const u64 table = kPresent | kWritable | kUser;
    put(kPml4, kPdpt | table);
    put(kPdpt, kPd | table);
    put(kPd, table | kLarge);
    put(kPdpt + 3 * 8, kLastPd | table);
    put(kLastPd + 511 * 8, table | kLarge);
    put(kPml4 + 255 * 8, kLastPdpt | table);
    put(kLastPdpt + 511 * 8, kLastPd | table);
    put(kPml4 + 273 * 8, kUpperPdpt | kPresent | kWritable);  // of kUpper
    put(kUpperPdpt + 8, kUpperPd | kPresent | kWritable);
    put(kUpperPd, kPresent | kWritable | kLarge);
    put(kGdt + kKernelCs, kKernelCode);
    put(kGdt + (kUserCs32 & ~7), kUserCode32);
    put(kGdt + (kUserDs & ~7), kUserData);
    put(kGdt + (kUserCs64 & ~7), kUserCode64);
    put(kTss + 4, kUpper + kKernelStack);
    for (u64 v = 0; v < 256; ++v) {
      const u64 handler = kUpper + kHandler + v * 16;
      put(kIdt + 16 * v,
          (handler & 0xffff) | u64{kKernelCs} << 16 | u64{0xee} << 40 | (handler >> 16 & 0xffff) << 48);
      put(kIdt + 16 * v + 8, handler >> 32);
      put(kHandler + 16 * v, 0xcf48);  // IRETQ
    }
    reset_cpu(s_, 0);
    s_.cr0 = cr0bit::PE | cr0bit::MP | cr0bit::ET | cr0bit::NE | cr0bit::WP | cr0bit::PG;
    s_.cr3 = kPml4;
    s_.cr4 = cr4bit::PAE | cr4bit::OSFXSR | cr4bit::OSXMMEXCPT;
    s_.efer = eferbit::LME | eferbit::LMA;
    s_.seg[CS] = segment(kUserCs32, kUserCode32);
    for (const Seg seg : {ES, SS, DS, FS, GS}) s_.seg[seg] = segment(kUserDs, kUserData);
    s_.tr = {.base = kUpper + kTss, .limit = 103, .selector = 0x40, .attr = 0x8b};
    s_.gdtr = {kUpper + kGdt, 0x3f};
    s_.idtr = {kUpper + kIdt, 256 * 16 - 1};
    s_.gpr[RSP] = kUserStack;
    s_.rip = kCode;
  }

  template <class T = u64>
  void put(u64 at, T value) {
    EXPECT_TRUE(ram_->write(Gpa(at), &value, sizeof value));
  }
  template <class T = u64>
  T get(u64 at) {
    T value{};
    EXPECT_TRUE(ram_->read(Gpa(at), &value, sizeof value));
    return value;
  }
  void code(std::initializer_list<u8> bytes, u64 at = kCode) {
    for (const u8 byte : bytes) put<u8>(at++, byte);
  }
  // One instruction, or the delivery of what it raises. Warm: not the first of its kind.
  void step() {
    if (GetParam() == Tlb::empty) engine_->flush_caches();
    one_step();
  }
  // Does what `f` does once before, from the same state, where TLBs shall be warm.
  template <class F>
  void tried(F&& f) {
    if (GetParam() == Tlb::warm) {
      const CpuState before = s_;
      const std::vector<u8> memory(ram_->host(Gpa(kData)), ram_->host(Gpa(kData + kPageSize)));
      f();
      s_ = before;
      ram_->write(Gpa(kData), memory.data(), memory.size());
    }
    f();
  }
  void one_step() { engine_->run(s_, clock_.steps + 1); }

  std::unique_ptr<GuestRam> ram_;
  FakePlatform platform_;
  Clock clock_;
  const CpuModel model_ = *parse_cpu_model("x86-64-v3");
  std::unique_ptr<Engine> engine_;
  CpuState s_;
};

INSTANTIATE_TEST_SUITE_P(Tlbs, EngineMemory, testing::Values(Tlb::empty, Tlb::warm),
                         [](const auto& info) { return info.param == Tlb::empty ? "Empty" : "Warm"; });

TEST_P(EngineMemory, AnEventOfCompatibilityModeGoesThroughTablesInTheUpperHalf) {
  code({0xcd, 0x80});  // int 80h
  tried([&] {
    step();
    EXPECT_EQ(s_.rip, kUpper + kHandler + 0x80 * 16);
    EXPECT_EQ(s_.seg[CS].selector, kKernelCs);
    EXPECT_EQ(s_.gpr[RSP], kUpper + kKernelStack - 40);
    EXPECT_EQ(get(kKernelStack - 40), kCode + 2);
    EXPECT_EQ(get(kKernelStack - 32), kUserCs32);
    EXPECT_EQ(get(kKernelStack - 16), kUserStack);
    step();
    EXPECT_EQ(s_.rip, kCode + 2);
    EXPECT_EQ(s_.seg[CS].selector, kUserCs32);
  });
}

TEST_P(EngineMemory, ASegmentLoadInCompatibilityModeReadsADescriptorInTheUpperHalf) {
  code({0x8e, 0xe0});  // mov fs, ax
  s_.gpr[RAX] = kUserDs;
  put(kGdt + (kUserDs & ~7), kUserData | u64{0x1234} << 16);
  tried([&] {
    step();
    EXPECT_EQ(s_.seg[FS].base, 0x1234u);
    EXPECT_EQ(s_.rip, kCode + 2);
  });
}

// The operand's last bytes are at 0, whether its instruction is translated or a helper's.
TEST_P(EngineMemory, AnOperandInCompatibilityModeGoesOnAtZeroBehind4GiB) {
  put<u32>(kLastPage + 0xffc, 0x44332211);
  put<u32>(0, 0x88776655);
  s_.gpr[RBP] = 0xfffffffe;
  s_.gpr[RDI] = kData;
  code({0x8b, 0x45, 0x00});  // mov eax, [ebp]
  tried([&] {
    step();
    EXPECT_EQ(s_.gpr[RAX], 0x66554433u);
  });
  s_.rip = kCode;
  s_.gpr[RSI] = 0xfffffffe;
  code({0xa5, 0x90});  // movsd
  tried([&] {
    step();
    EXPECT_EQ(get<u32>(kData), 0x66554433u);
    EXPECT_EQ(s_.gpr[RSI], 2u);
  });
  s_.rip = kCode;
  code({0xf0, 0x0f, 0xc7, 0x4d, 0x00});  // lock cmpxchg8b [ebp]
  tried([&] {
    step();
    EXPECT_EQ(s_.gpr[RAX], 0x66554433u);
    EXPECT_EQ(s_.rip, kCode + 5);
  });
}

// Pieces of an image lie wholly beyond 4 GiB, where the linear address of its segment wraps.
TEST_P(EngineMemory, AnImageInCompatibilityModeGoesOnAtZeroBehind4GiB) {
  s_.seg[FS].base = 0x80000000;
  s_.gpr[RBP] = 0x7fffff00;  // linear 4 GiB - 256
  s_.fpu.ymm[7][0] = 0x77;
  code({0x64, 0x0f, 0xae, 0x45, 0x00});  // fxsave fs:[ebp]
  tried([&] {
    put<u8>(160 + 16 * 7 - 256, 0);
    step();
    EXPECT_EQ(s_.rip, kCode + 5);
    EXPECT_EQ(get<u8>(160 + 16 * 7 - 256), 0x77);
  });
}

TEST_P(EngineMemory, ADataBreakpointSeesTheWrappedPartOfAnOperand) {
  s_.gpr[RBP] = 0xfffffffe;
  s_.dr[0] = 0;
  s_.dr7 = 0xf0001;
  for (const std::initializer_list<u8> bytes :
       {std::initializer_list<u8>{0x8b, 0x45, 0x00}, {0x0f, 0xc7, 0x4d, 0x00}}) {
    code(bytes);
    tried([&] {
      s_.rip = kCode;
      s_.pending_dbg = 0;
      step();
      EXPECT_EQ(s_.rip, kCode + bytes.size());
      EXPECT_TRUE(s_.pending_dbg & 1);
    });
  }
  // One of 64 bits is nowhere in compatibility mode.
  s_.dr[0] = u64{1} << 32;
  s_.pending_dbg = 0;
  s_.rip = kCode;
  step();
  EXPECT_FALSE(s_.pending_dbg);
}

// A base above the code: linear addresses of instructions wrap.
TEST_P(EngineMemory, ABlockInASegmentThatWrapsIsLeftToTheRightRip) {
  constexpr u64 kBase = 0xf0000000;
  s_.seg[CS].base = kBase;
  s_.rip = kCode + (u64{1} << 32) - kBase;
  const u64 last = kPageSize - 2;
  s_.rip += last;
  code({0x90, 0x90, 0x40}, kCode + last);  // nop; nop; inc eax, in the next page
  tried([&] {
    if (GetParam() == Tlb::empty) engine_->flush_caches();
    const u64 before = s_.gpr[RAX], rip = s_.rip;
    engine_->run(s_, clock_.steps + 3);
    EXPECT_EQ(s_.gpr[RAX], before + 1);
    EXPECT_EQ(s_.rip, rip + 3);
  });
}

TEST_P(EngineMemory, CodeInCompatibilityModeGoesOnAtZeroBehind4GiB) {
  code({0xb8, 0x11, 0x22}, kLastPage + 0xffd);  // mov eax, what goes on at 0
  code({0x33, 0x44}, 0);
  tried([&] {
    s_.rip = 0xfffffffd;
    step();
    EXPECT_EQ(s_.gpr[RAX], 0x44332211u);
    EXPECT_EQ(s_.rip, 2u);
  });
  code({0xd4, 0x0a}, kLastPage + 0xffe);  // aam, a helper's
  tried([&] {
    s_.rip = 0xfffffffe;
    step();
    EXPECT_EQ(s_.rip, 0u);
  });
  code({0xe8, 0x10, 0, 0, 0}, kLastPage + 0xffb);  // call 10h
  tried([&] {
    s_.rip = 0xfffffffb;
    s_.gpr[RSP] = kUserStack;
    step();
    EXPECT_EQ(s_.rip, 0x10u);
    EXPECT_EQ(get<u32>(kUserStack - 4), 0u);
  });
}

// Behind an instruction that is translated as behind one that a helper does.
TEST_P(EngineMemory, CodeOf16BitsMeetsItsLimitAt64KiB) {
  s_.seg[CS] = {.base = kCode, .limit = 0xffff, .selector = kUserCs32, .attr = 0xfb};
  for (const std::initializer_list<u8> bytes : {std::initializer_list<u8>{0x89, 0xc0}, {0xd4, 0x0a}}) {
    code(bytes, kCode + 0xfffe);  // mov ax, ax; aam
    tried([&] {
      s_.rip = 0xfffe;
      s_.seg[CS] = {.base = kCode, .limit = 0xffff, .selector = kUserCs32, .attr = 0xfb};
      s_.gpr[RSP] = kUserStack;
      step();
      EXPECT_EQ(s_.rip, 0x10000u);
      step();
      EXPECT_EQ(s_.rip, kUpper + kHandler + kGP * 16);
      EXPECT_EQ(get(kKernelStack - 40), 0x10000u);
    });
  }
}

TEST_P(EngineMemory, AnInstructionThatReachesBeyondTheCanonicalAddressesCannotBeFetched) {
  s_.seg[CS] = segment(kUserCs64, kUserCode64);
  // Page tables look at 48 bits: the next page's would be those of the first in the upper half.
  put(kPml4 + 256 * 8, kPdpt | kPresent | kWritable | kUser);
  s_.rip = 0x00007ffffffffffd;
  code({0x48, 0xc7, 0xc0}, kLastPage + 0xffd);  // mov rax, what follows
  tried([&] {
    step();
    EXPECT_EQ(s_.rip, kUpper + kHandler + kGP * 16);
    EXPECT_EQ(get(kKernelStack - 48), 0u);
    EXPECT_EQ(get(kKernelStack - 40), 0x00007ffffffffffdu);
  });
}

}  // namespace
}  // namespace deja
