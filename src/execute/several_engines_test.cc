// Several engines in a process: each finds its own way back from translated code and from the host's signals,
// whatever else runs on the same thread or at the same time.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "execute/engine.h"
#include "semantics/vcpu_for_test.h"

namespace deja {
namespace {

constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kCode = 0x20000, kData = 4_MiB, kBytes = 8_MiB;
constexpr Step kSteps = 60'000;

// A machine that adds an ever growing number to a word of one page after the other: its TLB lookups miss, its
// step counter runs out, and a port is read now and then, which ends the run.
class Adder {
 public:
  explicit Adder(u64 start, const EngineOptions& options = {}) : ram_(std::move(*GuestRam::create(kBytes))) {
    auto engine = Engine::create(*ram_, platform_, clock_, model_, 1, options);
    EXPECT_TRUE(engine.ok());
    engine_ = std::move(*engine);
    constexpr u64 kTable = 3, kLarge = 1 << 7;  // present, writable
    put(kPml4, kPdpt | kTable);
    put(kPdpt, kPd | kTable);
    for (u64 i = 0; i < kBytes / 2_MiB; ++i) put(kPd + 8 * i, i * 2_MiB | kTable | kLarge);
    constexpr u8 kLoop[] = {
        0x48, 0x8b, 0x03,                          // mov rax, [rbx]
        0x48, 0x01, 0xc8,                          // add rax, rcx
        0x48, 0x89, 0x03,                          // mov [rbx], rax
        0x48, 0xff, 0xc1,                          // inc rcx
        0x48, 0x81, 0xc3, 0x08, 0x10, 0x00, 0x00,  // add rbx, 1008h
        0x48, 0x81, 0xe3, 0xf8, 0xff, 0x3f, 0x00,  // and rbx, 3ffff8h
        0x48, 0x81, 0xcb, 0x00, 0x00, 0x40, 0x00,  // or rbx, 400000h
        0x84, 0xc9,                                // test cl, cl
        0x75, 0xdb,                                // jnz loop
        0xec,                                      // in al, dx
        0xeb, 0xd8,                                // jmp loop
    };
    EXPECT_TRUE(ram_->write(Gpa(kCode), kLoop, sizeof kLoop));
    reset_cpu(s_, 0);
    s_.cr0 = cr0bit::PE | cr0bit::MP | cr0bit::ET | cr0bit::NE | cr0bit::WP | cr0bit::PG;
    s_.cr3 = kPml4;
    s_.cr4 = cr4bit::PAE | cr4bit::OSFXSR | cr4bit::OSXMMEXCPT;
    s_.efer = eferbit::LME | eferbit::LMA;
    s_.seg[CS] = {.base = 0, .limit = 0xffffffff, .selector = 8, .attr = 0xa09b};
    s_.seg[SS] = {.base = 0, .limit = 0xffffffff, .selector = 16, .attr = 0xc093};
    s_.gpr[RCX] = start;
    s_.gpr[RBX] = kData;
    s_.rip = kCode;
  }

  // In slices of that many steps at the most.
  void run(Step steps, Step slice) {
    const Step end = clock_.steps + steps;
    while (clock_.steps < end)
      ASSERT_NE(engine_->run(s_, std::min(clock_.steps + slice, end)), RunStop::inactive);
  }
  // Whether both are where the same start leads to.
  void expect_same(const Adder& other) const {
    EXPECT_EQ(clock_.steps, other.clock_.steps);
    for (unsigned r = 0; r < 16; ++r) EXPECT_EQ(s_.gpr[r], other.s_.gpr[r]) << "register " << r;
    EXPECT_EQ(s_.rip, other.s_.rip);
    EXPECT_EQ(s_.rflags, other.s_.rflags);
    EXPECT_EQ(std::memcmp(ram_->host(Gpa(kData)), other.ram_->host(Gpa(kData)), kBytes - kData), 0);
  }

 private:
  void put(u64 at, u64 value) { EXPECT_TRUE(ram_->write(Gpa(at), &value, sizeof value)); }

  std::unique_ptr<GuestRam> ram_;
  FakePlatform platform_;
  Clock clock_;
  const CpuModel model_ = *parse_cpu_model("x86-64-v3");
  std::unique_ptr<Engine> engine_;
  CpuState s_;
};

TEST(SeveralEngines, OneThreadRunsThemInTurns) {
  Adder alone_a(1), alone_b(1000);
  alone_a.run(kSteps, kSteps);
  alone_b.run(kSteps, kSteps);
  Adder a(1), b(1000);
  for (Step done = 0; done < kSteps; done += 1000) {
    a.run(1000, 997);
    b.run(1000, 313);
  }
  a.expect_same(alone_a);
  b.expect_same(alone_b);
}

TEST(SeveralEngines, ThreadsRunThemAtTheSameTime) {
  Adder alone_a(7), alone_b(77);
  alone_a.run(kSteps, kSteps);
  alone_b.run(kSteps, kSteps);
  Adder a(7), b(77);
  std::thread first([&] { a.run(kSteps, 997); });
  std::thread second([&] { b.run(kSteps, 313); });
  first.join();
  second.join();
  a.expect_same(alone_a);
  b.expect_same(alone_b);
}

TEST(SeveralEngines, OneMovesFromThreadToThread) {
  Adder alone(3), moving(3);
  alone.run(kSteps, kSteps);
  for (Step done = 0; done < kSteps; done += kSteps / 4)
    std::thread([&] { moving.run(kSteps / 4, 997); }).join();
  moving.expect_same(alone);
}

// Their routes for the host's signals are given back and used again while another runs.
TEST(SeveralEngines, OthersComeAndGoMeanwhile) {
  Adder alone(5), steady(5);
  alone.run(kSteps, kSteps);
  std::thread runner([&] { steady.run(kSteps, 499); });
  for (int i = 0; i < 20; ++i) {
    Adder passing(100), neighbour(200);
    passing.run(2000, 97);
    neighbour.run(2000, 97);
  }
  runner.join();
  steady.expect_same(alone);
}

// Its engine's code stands where one of the parent's does, and its route is one that the parent gave back,
// behind that engine's in the list.
TEST(SeveralEngines, AForkedChildRunsItsOwn) {
  Adder alone(4);
  alone.run(kSteps, kSteps);
  auto first = std::make_unique<Adder>(1);
  auto second = std::make_unique<Adder>(2);
  first.reset();
  const pid_t child = ::fork();
  if (child == 0) {
    Adder own(4);
    own.run(kSteps, 997);
    own.expect_same(alone);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  second->run(kSteps, 997);
}

TEST(SeveralEngines, ChaosInOneIsNoneInAnother) {
  EngineOptions chaos;
  chaos.chaos = {.enabled = true, .seed = 12};
  Adder plain(9), disturbed(9, chaos);
  for (Step done = 0; done < kSteps; done += 1000) {
    plain.run(1000, 997);
    disturbed.run(1000, 61);
  }
  disturbed.expect_same(plain);
}

}  // namespace
}  // namespace deja
