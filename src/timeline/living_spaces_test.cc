#include "timeline/living_spaces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/machine_for_test.h"

namespace deja {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<u64> tables(const Machine& machine) {
  std::vector<u64> out;
  for (const GuestView& space : living_spaces(machine)) out.push_back(space.table());
  return out;
}

// All of them in 64-bit mode, with tables at 1, 2, … MiB.
void start_all(test::MachineForTest& machine) {
  for (unsigned i = 0; i < machine->vcpu_count(); ++i) {
    machine.cpu(i) = machine.cpu(0);
    machine.cpu(i).index = i;
    machine.cpu(i).cr3 = (i + 1) * 1_MiB;
  }
}

void halt(CpuState& cpu, bool interrupts) {
  cpu.activity = Activity::halted;
  cpu.rflags = interrupts ? cpu.rflags | flag::IF : cpu.rflags & ~flag::IF;
}

TEST(LivingSpaces, TheOneWhoseTurnItIsComesFirst) {
  test::MachineForTest machine(3);
  start_all(machine);
  halt(machine.cpu(0), true);
  halt(machine.cpu(1), true);
  EXPECT_THAT(tables(*machine), ElementsAre(3_MiB, 1_MiB, 2_MiB));
}

TEST(LivingSpaces, WhatAKernelHasLeftBehindIsNotThere) {
  test::MachineForTest machine(4);
  start_all(machine);
  halt(machine.cpu(0), false);
  machine.cpu(1).activity = Activity::shutdown;
  machine.cpu(2).activity = Activity::wait_for_sipi;
  EXPECT_THAT(tables(*machine), ElementsAre(4_MiB));
  halt(machine.cpu(3), true);
  EXPECT_THAT(tables(*machine), ElementsAre(4_MiB));
  halt(machine.cpu(3), false);
  EXPECT_THAT(tables(*machine), IsEmpty());
}

TEST(LivingSpaces, AProcessHasATableOfItsKernelToo) {
  constexpr u64 kUserHalf = 4_KiB;
  test::MachineForTest machine;
  CpuState& cpu = machine.cpu(0);
  cpu.cr3 = 2_MiB + kUserHalf;
  EXPECT_THAT(tables(*machine), ElementsAre(2_MiB + kUserHalf));  // the kernel: any table may be its
  cpu.seg[SS].attr |= 3 << 5;
  ASSERT_EQ(cpu.cpl(), 3u);
  EXPECT_THAT(tables(*machine), ElementsAre(2_MiB + kUserHalf, 2_MiB));
  cpu.cr3 = 2_MiB;
  EXPECT_THAT(tables(*machine), ElementsAre(2_MiB));
}

TEST(LivingSpaces, OneWithoutLongModeHasNone) {
  test::MachineForTest machine(2);
  start_all(machine);
  machine.cpu(0).efer = 0;
  EXPECT_THAT(tables(*machine), ElementsAre(2_MiB));
}

}  // namespace
}  // namespace deja
