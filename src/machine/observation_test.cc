// Breakpoints and watchpoints of the debugger: what they see, that they see all of it in every engine mode,
// and that the guest goes the same way with and without them.
#include <gtest/gtest.h>

#include "machine/machine.h"

// A Multiboot guest in 32-bit code that leaves through the debug-exit port. It touches the page at 60000h in
// every way there is. Its page directory, at 70000h, maps the first 4 MiB twice: at 0 and at 400000h.
asm(R"(
  .pushsection .rodata
  .code32
observed_guest:
  .long 0x1badb002, 0, 0xe4524ffe
  movl $0x80000, %esp
  lgdt (og_gdtr - observed_guest + 0x100000)
  ljmp $8, $(og_flat - observed_guest + 0x100000)
og_flat:
  lidt (og_idtr - observed_guest + 0x100000)
  movl $(og_handler - observed_guest + 0x100000), %eax
  movw %ax, 0x68030
  movw $0x08, 0x68032
  movl $0x108e00, 0x68034
  movl $0x83, 0x70000
  movl $0x83, 0x70004
  movl %cr4, %eax
  orl $0x210, %eax
  movl %eax, %cr4
  movl $0x70000, %eax
  movl %eax, %cr3
  movl %cr0, %eax
  orl $0x80000000, %eax
  movl %eax, %cr0
  movl $10, %ecx
og_loop:
  addl $1, 0x60000
og_in_loop:
  incl %edx
  cmpl $5, %ecx
  jne 1f
og_rare:
  nop
1:decl %ecx
  jnz og_loop
og_alias:
  movl $0x1234, 0x460004
og_same:
  movl $0x1234, 0x60004
og_straddle:
  movl $-1, 0x60ffe
  cld
  movl $0x60100, %edi
  movl $8, %ecx
  movl $0x55555555, %eax
og_stos:
  rep stosl
  movl $0x60000, %esi
  movl $0x62000, %edi
  movl $0x1800, %ecx
og_movs:
  rep movsb
og_read:
  movl 0x60200, %eax
og_sse:
  movups 0x60210, %xmm0
og_rmw:
  lock incl 0x60200
  movl $0x60310, %esp
og_push:
  pushl $7
og_int:
  ud2
og_after_int:
  movl $0x80000, %esp
  movl $0x18, %eax
og_load_ds:
  movl %eax, %ds
og_directory:
  movl 0x400000, %eax
  movl $0xf4, %edx
  movb $5, %al
  outb %al, %dx
  jmp .
og_handler:
  addl $2, (%esp)
  iretl
  .balign 8
og_gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cf92000000ffff
og_gdtr:
  .word 31
  .long og_gdt - observed_guest + 0x100000
og_idtr:
  .word 0x7ff
  .long 0x68000
observed_guest_end:
  .code64
  .popsection
)");
extern "C" {
extern const deja::u8 observed_guest[], observed_guest_end[], og_loop[], og_in_loop[], og_rare[], og_same[],
    og_stos[], og_movs[], og_read[], og_sse[], og_rmw[], og_push[], og_int[], og_after_int[], og_load_ds[],
    og_directory[], og_handler[], og_gdt[];
}

namespace deja {
namespace {

u64 at(const u8* label) { return 1_MiB + static_cast<u64>(label - observed_guest); }

struct Seen {
  Hit hit;
  u64 rip = 0;  // where the machine stood then
};

// What both sides of a comparison print.
std::string line(const Seen& s) {
  const auto hex = [](const std::vector<u8>& bytes) {
    std::string text;
    for (const u8 b : bytes) text += fmt::format("{:02x}", b);
    return text;
  };
  return fmt::format("kind {} of {} by {} at step {}, {:x} from {:x}: {} -> {}; rip {:x}",
                     static_cast<int>(s.hit.kind), s.hit.index, static_cast<int>(s.hit.cause), s.hit.step,
                     s.hit.at.value, s.hit.rip, hex(s.hit.before), hex(s.hit.now), s.rip);
}

class ObservationTest : public testing::Test {
 protected:
  ObservationTest() {
    kernel_.assign(84, 0);
    const auto put = [&](std::size_t offset, u32 value, unsigned size) {
      std::memcpy(&kernel_[offset], &value, size);
    };
    std::memcpy(kernel_.data(),
                "\x7f"
                "ELF\1\1\1",
                7);
    const u32 size = static_cast<u32>(observed_guest_end - observed_guest);
    put(16, 2, 2), put(18, 3, 2), put(20, 1, 4), put(24, 0x10000c, 4), put(28, 52, 4);
    put(40, 52, 2), put(42, 32, 2), put(44, 1, 2);
    put(52, 1, 4), put(56, 84, 4), put(60, 0x100000, 4), put(64, 0x100000, 4), put(68, size, 4),
        put(72, size, 4), put(76, 7, 4);
    kernel_.insert(kernel_.end(), observed_guest, observed_guest_end);
  }

  std::unique_ptr<Machine> machine(const EngineOptions& options = {}) const {
    MachineConfig config;
    config.ram_bytes = 32_MiB;
    config.reboot = false;
    config.boot.kernel = {"observed_guest", kernel_};
    return std::move(Machine::create(config, options)).value();
  }

  // Runs to the end. What was seen does not depend on the engine's mode, and what the guest does not on being
  // watched.
  std::vector<Seen> observe(const ObservationSpec& spec) const {
    const auto free = machine();
    EXPECT_EQ(free->run(kLongEnough), MachineStop::ended);
    EXPECT_EQ(free->exit_status(), 11u);
    std::vector<Seen> first;
    EngineOptions plain;
    plain.translate.max_insns = 1;
    plain.translate.link = plain.translate.inline_jumps = plain.translate.inline_tlb = false;
    std::vector<EngineOptions> modes{{}, plain};
    for (u64 seed = 1; seed <= 8; ++seed) {
      modes.emplace_back();
      modes.back().chaos = {true, seed};
    }
    for (std::size_t i = 0; i < modes.size(); ++i) {
      SCOPED_TRACE(fmt::format("engine mode {}", i));
      const auto m = machine(modes[i]);
      std::vector<Seen> seen = run(*m, spec);
      EXPECT_EQ(m->digest(), free->digest());
      EXPECT_EQ(m->clock().steps, free->clock().steps);
      if (i == 0) {
        first = std::move(seen);
        continue;
      }
      EXPECT_EQ(seen.size(), first.size());
      for (std::size_t k = 0; k < std::min(seen.size(), first.size()); ++k)
        EXPECT_EQ(line(seen[k]), line(first[k]));
    }
    return first;
  }

  static std::vector<Seen> run(Machine& m, const ObservationSpec& spec) {
    m.engine().observe(spec);
    std::vector<Seen> seen;
    while (true) {
      const MachineStop stop = m.run(kLongEnough);
      if (stop != MachineStop::observed) return seen;
      EXPECT_TRUE(m.engine().observation().pending());
      for (Hit& hit : m.engine().observation().take()) {
        EXPECT_EQ(hit.step, m.clock().steps);
        seen.push_back({std::move(hit), m.cpu(0).rip});
      }
      ObservationSpec next = spec;
      next.skip_at = m.clock().steps;
      m.engine().observe(next);
    }
  }

  static Watchpoint physical(u64 address, u64 size, u8 kinds = Watchpoint::kWrite) {
    Watchpoint w;
    w.kinds = kinds;
    w.address = address;
    w.size = size;
    return w;
  }
  static u64 number(const std::vector<u8>& bytes) {
    u64 value = 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  static constexpr Step kLongEnough = 100'000;
  std::vector<u8> kernel_;
};

TEST_F(ObservationTest, BreakpointsStopBeforeTheInstructionEachTime) {
  const auto seen = observe({{{at(og_in_loop), {}}, {at(og_rare), {}}}, {}});
  ASSERT_EQ(seen.size(), 11u);
  unsigned rare = 0;
  for (const Seen& s : seen) {
    EXPECT_EQ(s.hit.kind, Hit::Kind::breakpoint);
    EXPECT_EQ(s.rip, s.hit.index == 0 ? at(og_in_loop) : at(og_rare));
    rare += s.hit.index;
  }
  EXPECT_EQ(rare, 1u);
  EXPECT_EQ(seen[6].hit.index, 1u);
  EXPECT_EQ(seen[6].hit.step, seen[5].hit.step + 3);
}

TEST_F(ObservationTest, BreakpointBesideAnInstructionNeverStops) {
  EXPECT_TRUE(observe({{{at(og_in_loop) - 1, {}}, {at(og_loop) + 1, {}}}, {}}).empty());
}

TEST_F(ObservationTest, BreakpointOfAnotherAddressSpaceNeverStops) {
  EXPECT_TRUE(observe({{{at(og_in_loop), 0x71000}}, {}}).empty());
  EXPECT_EQ(observe({{{at(og_in_loop), 0x70018}}, {}}).size(), 10u);
}

TEST_F(ObservationTest, BreakpointOnARepStopsOnce) {
  // The source is in two pages: two pieces, the second with RF.
  const auto seen = observe({{{at(og_movs), {}}, {at(og_stos), {}}}, {}});
  EXPECT_EQ(seen.size(), 2u);
}

TEST_F(ObservationTest, BreakpointForRestartsIgnoresRf) {
  const CodeBreakpoint b{at(og_movs), {}, true};
  EXPECT_EQ(observe({{b}, {}}).size(), 2u);
}

TEST_F(ObservationTest, NewBreakpointsReplaceTheOldOnes) {
  const auto m = machine();
  m->engine().observe({{{at(og_in_loop), {}}}, {}});
  ASSERT_EQ(m->run(kLongEnough), MachineStop::observed);
  m->engine().observation().take();
  m->engine().observe({{{at(og_movs), {}}}, {}});
  ASSERT_EQ(m->run(kLongEnough), MachineStop::observed);
  EXPECT_EQ(m->cpu(0).rip, at(og_movs));
  m->engine().observe({});
  EXPECT_EQ(m->run(kLongEnough), MachineStop::ended);
}

TEST_F(ObservationTest, WatchpointStopsAfterTheStoreWithOldAndNewValue) {
  const auto seen = observe({{}, {physical(0x60000, 4)}});
  ASSERT_EQ(seen.size(), 10u);
  for (unsigned i = 0; i < 10; ++i) {
    EXPECT_EQ(number(seen[i].hit.before), i);
    EXPECT_EQ(number(seen[i].hit.now), i + 1);
    EXPECT_EQ(seen[i].rip, at(og_in_loop));
    EXPECT_EQ(seen[i].hit.rip, at(og_loop));
    EXPECT_EQ(seen[i].hit.cr3, 0x70000u);
    EXPECT_EQ(seen[i].hit.vcpu, 0u);
  }
}

TEST_F(ObservationTest, PhysicalWatchpointSeesWritesThroughEveryMapping) {
  const auto all = observe({{}, {physical(0x60004, 4)}});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].rip, at(og_same));
  EXPECT_EQ(all[1].hit.before, all[1].hit.now);
  Watchpoint changes = physical(0x60004, 4);
  changes.changes_only = true;
  EXPECT_EQ(observe({{}, {changes}}).size(), 1u);
}

TEST_F(ObservationTest, LinearWatchpointFollowsThePageTables) {
  Watchpoint w = physical(0x460004, 4);
  w.physical = false;
  // Bound by the first access through the alias, it sees the one through the other mapping too.
  const auto seen = observe({{}, {w}});
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].hit.at, Gpa(0x60004));
  w.cr3 = 0x71000;
  EXPECT_TRUE(observe({{}, {w}}).empty());
}

TEST_F(ObservationTest, StoreAcrossAPageEndIsSeenInBothPages) {
  const auto seen = observe({{}, {physical(0x60ff8, 16)}});
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].hit.at, Gpa(0x60ffe));
  EXPECT_EQ(seen[0].hit.now, (std::vector<u8>{0xff, 0xff}));
  EXPECT_EQ(seen[1].hit.at, Gpa(0x61000));
  EXPECT_EQ(seen[0].hit.step, seen[1].hit.step);
}

TEST_F(ObservationTest, StringInstructionsAreSeenPieceByPiece) {
  const auto seen = observe({{}, {physical(0x60104, 8), physical(0x62100, 4)}});
  ASSERT_EQ(seen.size(), 6u);
  EXPECT_EQ(seen[0].hit.at, Gpa(0x60104));
  EXPECT_EQ(seen[1].hit.at, Gpa(0x60108));
  EXPECT_EQ(seen[0].hit.step, seen[1].hit.step);
  EXPECT_EQ(seen[2].hit.index, 1u);
  EXPECT_EQ(seen[5].hit.now[0], 0x55);
}

TEST_F(ObservationTest, ReadsOfEverySizeAreSeen) {
  const auto seen = observe({{}, {physical(0x60203, 32, Watchpoint::kRead)}});
  std::vector<u64> rips;
  for (const Seen& s : seen)
    if (s.rip > at(og_read)) rips.push_back(s.rip);
  EXPECT_EQ(rips, (std::vector<u64>{at(og_sse), at(og_rmw), at(og_rmw) + 7}));
  // Before them, each byte that REP MOVS copies.
  EXPECT_EQ(seen.size(), 3u + 32u);
}

TEST_F(ObservationTest, AccessWatchpointSeesReadsAndWrites) {
  const auto seen = observe({{}, {physical(0x60200, 1, Watchpoint::kRead | Watchpoint::kWrite)}});
  ASSERT_EQ(seen.size(), 4u);  // REP MOVS, MOV, and both halves of INC
  EXPECT_EQ(seen[2].hit.kind, Hit::Kind::read);
  EXPECT_EQ(seen[3].hit.kind, Hit::Kind::write);
  EXPECT_EQ(seen[2].hit.step, seen[3].hit.step);
}

TEST_F(ObservationTest, FramesOfExceptionsAreNamed) {
  const auto seen = observe({{}, {physical(0x60300, 16)}});
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0].hit.cause, AccessCause::instruction);
  EXPECT_EQ(seen[0].rip, at(og_int));
  EXPECT_EQ(seen[1].hit.cause, AccessCause::delivery);
  EXPECT_EQ(seen[1].rip, at(og_handler));
  EXPECT_EQ(seen[1].hit.now.size(), 12u);
  EXPECT_EQ(seen[2].hit.cause, AccessCause::instruction);
}

TEST_F(ObservationTest, AccessedBitsOfDescriptorsAreNamed) {
  const auto seen = observe({{}, {physical(at(og_gdt) + 0x18, 8)}});
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].hit.cause, AccessCause::descriptor);
  EXPECT_EQ(seen[0].rip, at(og_directory));
}

TEST_F(ObservationTest, AccessedAndDirtyBitsOfPageTablesAreNamed) {
  const auto seen = observe({{}, {physical(0x70004, 4)}});
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].hit.cause, AccessCause::instruction);
  EXPECT_EQ(seen[1].hit.cause, AccessCause::page_walk);
  EXPECT_EQ(number(seen[1].hit.before), 0x83u);
  EXPECT_EQ(number(seen[1].hit.now), 0xe3u);
  EXPECT_EQ(seen[1].rip, at(og_same));
}

TEST_F(ObservationTest, DevicesWritesBelongToTheStepTheyCameAt) {
  const auto m = machine();
  m->engine().observe({{}, {physical(0x60010, 8)}});
  ASSERT_EQ(m->run(20), MachineStop::until);
  const u32 value = 77;
  m->ram().write(Gpa(0x60010), &value, sizeof value);
  EXPECT_EQ(m->run(20), MachineStop::observed);
  const auto hits = m->engine().observation().take();
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].cause, AccessCause::device);
  EXPECT_EQ(hits[0].vcpu, std::nullopt);
  EXPECT_EQ(hits[0].step, 20u);
  EXPECT_EQ(number(hits[0].now), 77u);
  EXPECT_EQ(m->run(20), MachineStop::until);
}

TEST_F(ObservationTest, OtherPagesKeepTheInlinePath) {
  const auto slow = [&](const ObservationSpec& spec) {
    const auto m = machine();
    run(*m, spec);
    return m->engine().counters().slow_accesses;
  };
  EXPECT_EQ(slow({{}, {physical(0x90000, 64, Watchpoint::kRead | Watchpoint::kWrite)}}), slow({}));
}

}  // namespace
}  // namespace deja
