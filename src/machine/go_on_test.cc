// A vCPU that goes on after a turn or an access to a device without leaving its run (Machine::go_on) does
// what it would do if every step were a run of its own.
#include <gtest/gtest.h>

#include "machine/images_for_test.h"
#include "machine/machine.h"

// A Multiboot guest in 32-bit code that polls ports and its local APIC, raises and lowers its priority with
// an interrupt waiting, spins, sleeps now and then, and is interrupted by its timer; another vCPU, if there
// is one, polls and spins in real mode. 60000h: what both have seen.
asm(R"(
  .pushsection .rodata
  .code32
polling_guest:
  .long 0x1badb002, 0, 0xe4524ffe
  movl $0x80000, %esp
  lgdt (pg_gdtr - polling_guest + 0x100000)
  ljmp $8, $(pg_flat - polling_guest + 0x100000)
pg_flat:
  lidt (pg_idtr - polling_guest + 0x100000)
  movl $(pg_timer - polling_guest + 0x100000), %eax
  movw %ax, 0x68200
  movl $0x00080000, %ecx
  movw $0x08, 0x68202
  movl $0x108e00, 0x68204
  movl $(pg_ipi - polling_guest + 0x100000), %eax
  movw %ax, 0x68288
  movw $0x08, 0x6828a
  movl $0x108e00, 0x6828c
  cld
  movl $(pg_other - polling_guest + 0x100000), %esi
  movl $0x8000, %edi
  movl $(polling_guest_end - pg_other), %ecx
  rep movsb
  movb $0xff, %al
  outb %al, $0x21
  outb %al, $0xa1
  movl $0x1ff, 0xfee000f0
  movl $0x01000000, 0xfee00310
  movl $0x00004500, 0xfee00300
  movl $0x00004608, 0xfee00300
  movl $0xb, 0xfee003e0
  movl $0x20040, 0xfee00320
  movl $131, 0xfee00380
  movb $0x34, %al
  outb %al, $0x43
  movb $0x99, %al
  outb %al, $0x40
  outb %al, $0x40
  sti
pg_loop:
  incl %ebx
  inb $0x40, %al
  addl %eax, 0x60000
  roll $3, 0x60000
  movl 0xfee00390, %eax
  addl %eax, 0x60004
  movl $0x50, 0xfee00080
  movl $0x44051, 0xfee00300
  rdtsc
  xorl %eax, 0x60008
  roll $5, 0x60008
  movl $0, 0xfee00080
  movl 0x6000c, %eax
  addl %eax, 0x60010
  outb %al, $0x80
  movl $20, %ecx
1:pause
  addl %ecx, %edx
  xorl %edx, 0x60014
  decl %ecx
  jnz 1b
  testl $31, %ebx
  jnz pg_loop
  hlt
  jmp pg_loop
pg_timer:
  pushl %eax
  pushl %edx
  rdtsc
  addl %eax, 0x60018
  roll $7, 0x60018
  movl $0, 0xfee000b0
  popl %edx
  popl %eax
  iretl
pg_ipi:
  incl 0x6000c
  movl $0, 0xfee000b0
  iretl
  .code16
pg_other:
  movw $0x6000, %ax
  movw %ax, %ds
2:inb $0x40, %al
  addw %ax, 0x100
  rolw $1, 0x100
  pause
  incw %bx
  xorw %bx, 0x104
  testw $7, %bx
  jnz 2b
  inb $0x61, %al
  addw %ax, 0x102
  jmp 2b
  .code32
  .balign 8
pg_gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
pg_gdtr:
  .word 23
  .long pg_gdt - polling_guest + 0x100000
pg_idtr:
  .word 0x7ff
  .long 0x68000
polling_guest_end:
  .code64
  .popsection
)");
extern "C" {
extern const deja::u8 polling_guest[], polling_guest_end[];
}

namespace deja {
namespace {

constexpr Step kSteps = 60'000;

struct Case {
  unsigned vcpus = 1;
  u64 quantum = 200'000;
  std::optional<u64> chaos_seed;
};

std::unique_ptr<Machine> machine(const Case& c, const EngineOptions& options = {}) {
  static const test::Bytes kernel =
      test::make_elf32(0x10000c, 0x100000, 0x100000, test::Bytes(polling_guest, polling_guest_end),
                       static_cast<u32>(polling_guest_end - polling_guest));
  MachineConfig config;
  config.ram_bytes = 32_MiB;
  config.vcpus = c.vcpus;
  config.quantum = c.quantum;
  config.chaos_seed = c.chaos_seed;
  config.boot.kernel = {"polling_guest", kernel};
  return std::move(Machine::create(config, options)).value();
}

// To this step, in runs of at most so many.
void run_to(Machine& m, Step target, Step slice) {
  while (m.clock().steps < target) {
    const MachineStop stop = m.run(std::min(target, m.clock().steps + slice));
    if (stop == MachineStop::idle && m.clock().steps < target) {
      ASSERT_NE(m.next_deadline(), kNeverNs);
      m.warp(m.warp_to_deadline());
    } else {
      ASSERT_TRUE(stop == MachineStop::until || stop == MachineStop::idle);
    }
  }
  m.run(target);  // what is due at this step
}

TEST(GoOn, IsTheSameAsARunForEachStep) {
  std::vector<Case> cases{{1}, {2, 300}, {2, 20'000}, {3, 1000}};
  for (const unsigned vcpus : {1, 2})
    for (u64 seed = 1; seed <= 4; ++seed) cases.push_back({vcpus, 20'000, seed});
  std::vector<EngineOptions> modes(2);
  modes[1].translate.quick = false;
  for (u64 seed = 1; seed <= 2; ++seed) {
    modes.emplace_back();
    modes.back().chaos = {true, seed};
  }
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("{} vCPUs, quantum {}, chaos {}", c.vcpus, c.quantum, c.chaos_seed.value_or(0)));
    const auto step_by_step = machine(c);
    std::vector<std::unique_ptr<Machine>> others;
    others.reserve(modes.size());
    for (const EngineOptions& options : modes) others.push_back(machine(c, options));
    for (const Step target : {kSteps / 3, kSteps / 2 + 1, kSteps}) {
      run_to(*step_by_step, target, 1);
      const MachineDigest expected = step_by_step->digest();
      for (std::size_t i = 0; i < others.size(); ++i) {
        run_to(*others[i], target, kSteps);
        EXPECT_EQ(others[i]->digest(), expected) << "engine mode " << i << ", step " << target;
        EXPECT_EQ(others[i]->stalls(), step_by_step->stalls());
      }
    }
    u32 ipis = 0;
    EXPECT_TRUE(step_by_step->ram().read(Gpa(0x6000c), &ipis, sizeof ipis));
    EXPECT_GT(ipis, 10u) << "the guest does what it is here for";
  }
}

TEST(GoOn, SparesTheWayOutOfTheRun) {
  for (const Case& c : {Case{1}, Case{1, 1000, 3}}) {
    const auto m = machine(c);
    run_to(*m, kSteps, kSteps);
    const EngineCounters counters = m->engine().counters();
    const u64 left = counters.dispatches[static_cast<unsigned>(DispatchCause::start)];
    EXPECT_GT(counters.helpers[ZYDIS_MNEMONIC_IN] + counters.mmio, 1000u);
    EXPECT_LT(left, 400u) << "sleeps, and stalls if any";
  }
}

}  // namespace
}  // namespace deja
