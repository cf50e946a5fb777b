// What of gdb's conditions holds on whichever machine of a recording.
#include "gdb/stop_conditions.h"

#include <gtest/gtest.h>

#include "gdb/interruption.h"
#include "machine/machine_for_test.h"

namespace deja {
namespace {

class StopConditionsTest : public testing::Test {
 protected:
  StopConditionsTest() {
    machine_.cpu(0).cr3 = top_ = machine_.make_table();
    machine_.map(top_, 0x400000, 20_MiB);
    machine_.write_text(20_MiB, "now. now. now. ");
    machine_.write_text(30_MiB, "then then ");
  }
  // [address, address + size) is watched, and stood at `physical` when that was said.
  static PinnedWatchpoint pin(u64 address, u64 size, u64 physical) {
    return {{GdbWatchpoint::Kind::write, address, size, false}, {{Gpa(physical), size}}, 0};
  }
  std::string read(const std::vector<PinnedWatchpoint>& pins, u64 address, std::size_t size) {
    std::string out(size, '?');
    out.resize(read_pinned(GuestView::of_vcpu(*machine_, 0), pins, address, out.data(), size));
    return out;
  }
  Hit breakpoint(unsigned index) {
    Hit hit;
    hit.index = index;
    hit.vcpu = 0;
    return hit;
  }

  test::MachineForTest machine_;
  u64 top_ = 0;
};

TEST_F(StopConditionsTest, WatchedBytesAreThoseThatWereThere) {
  EXPECT_EQ(read({}, 0x400000, 10), "now. now. ");
  EXPECT_EQ(read({pin(0x400005, 4, 30_MiB)}, 0x400000, 15), "now. then now. ");
  EXPECT_EQ(read({pin(0x400005, 4, 30_MiB)}, 0x400006, 2), "he");
  // Two that touch, two that overlap, of which the first counts, and one that was mapped nowhere.
  EXPECT_EQ(read({pin(0x400000, 4, 30_MiB), pin(0x400004, 1, 30_MiB)}, 0x400000, 6), "thentn");
  EXPECT_EQ(read({pin(0x400002, 1, 30_MiB), pin(0x400000, 4, 30_MiB)}, 0x400000, 4), "thtn");
  PinnedWatchpoint nowhere = pin(0x400000, 4, 0);
  nowhere.pieces.clear();
  EXPECT_EQ(read({nowhere}, 0x400000, 4), "now.");
}

TEST_F(StopConditionsTest, WatchedBytesAreReadWhereNothingIsMappedAnyMore) {
  EXPECT_EQ(read({pin(0x401000, 4, 30_MiB)}, 0x400ffe, 100), std::string("\0\0then", 6));
  EXPECT_EQ(read({pin(0x500000, 4, 30_MiB)}, 0x500000, 4), "then");
  EXPECT_EQ(read({pin(0x500000, 4, 64_MiB)}, 0x500000, 4), "");
}

TEST_F(StopConditionsTest, AKernelsAddressesAndPhysicalOnesMeanWhatTheyMeanNow) {
  machine_.map(top_, 0xffff888000000000, 20_MiB);
  EXPECT_EQ(read({pin(0xffff888000000000, 4, 30_MiB)}, 0xffff888000000000, 4), "now.");
  char out[4];
  EXPECT_EQ(read_pinned(GuestView::physical(*machine_), {pin(20_MiB, 4, 30_MiB)}, 20_MiB, out, 4), 4u);
  EXPECT_EQ(std::string(out, 4), "now.");
}

// A condition: the byte at 0x400000 is `c`.
std::string byte_is(char c) { return std::string("\x24\0\x40\0\0\x17\x22", 7) + c + "\x13\x27"; }

TEST_F(StopConditionsTest, AFilterJudgesAsTheConditionsDo) {
  StopConditions conditions;
  conditions.breakpoints = {{1, false, {}}, {2, false, {byte_is('n')}}, {3, true, {byte_is('x')}}};
  const auto judge = [&](unsigned index) {
    auto test = make_test(conditions.filter());
    EXPECT_TRUE(test) << test.error().message;
    const bool holds = conditions.hold(*machine_, breakpoint(index));
    EXPECT_EQ((*test)(*machine_, breakpoint(index)), holds) << "breakpoint " << index;
    return holds;
  };
  EXPECT_TRUE(judge(0));
  EXPECT_TRUE(judge(1));
  EXPECT_FALSE(judge(2));
  EXPECT_FALSE(judge(3)) << "not gdb's";
  // A condition on the pinned byte.
  conditions.pins = {pin(0x400000, 1, 30_MiB)};
  EXPECT_FALSE(judge(1));
  machine_.write_text(30_MiB, "x");
  EXPECT_TRUE(judge(2));
}

TEST_F(StopConditionsTest, DamagedFiltersAreErrors) {
  HitFilter filter = StopConditions{{{1, false, {byte_is('n')}}}, {pin(1, 2, 3)}}.filter();
  EXPECT_TRUE(make_test(filter));
  while (!filter.parameters.empty()) {
    filter.parameters.pop_back();
    EXPECT_FALSE(make_test(filter));
  }
}

TEST_F(StopConditionsTest, AnInterruptionIsWhereEverythingIsAsAfterIt) {
  CpuState& cpu = machine_.cpu(0);
  for (unsigned i = 0; i < 16; ++i) cpu.gpr[i] = 100 + i;
  cpu.rip = 0x1234;
  const Interruption wanted = Interruption::of(cpu, 0);
  auto test = make_test(wanted.filter());
  ASSERT_TRUE(test) << test.error().message;
  Hit hit;
  hit.kind = Hit::Kind::delivery;
  hit.vcpu = 0;
  hit.rip = 0x1234, hit.rsp = cpu.gpr[RSP], hit.cr3 = cpu.cr3;
  cpu.gpr[RSP] = 7;  // the handler's
  EXPECT_TRUE((*test)(*machine_, hit));
  hit.rsp += 8;
  EXPECT_FALSE((*test)(*machine_, hit));
  hit.rsp -= 8;
  hit.cr3 += 1;
  EXPECT_FALSE((*test)(*machine_, hit));
  hit.cr3 -= 1;
  cpu.gpr[R15] += 1;
  EXPECT_FALSE((*test)(*machine_, hit));
}

}  // namespace
}  // namespace deja
