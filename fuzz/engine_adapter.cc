#include "fuzz/engine_adapter.h"

#include <cstring>

#include "base/check.h"
#include "execute/engine.h"
#include "execute/host/host_cpu.h"
#include "translate/flag_fixes.h"

namespace deja::fuzz {
namespace {

// Guest physical memory, 2 MiB, all of it also mapped for the supervisor at kKernelBase.
constexpr u64 kPml4 = 0x1000, kUserPdpt = 0x2000, kUserPd = 0x3000, kCodePt = 0x4000, kDataPt = 0x5000;
constexpr u64 kKernelPdpt = 0x6000, kKernelPd = 0x7000, kGdt = 0x8000, kTss = 0x9000, kIdt = 0xa000;
constexpr u64 kHandlers = 0xb000, kKernelStack = 0x10000;  // the stack grows down from there
constexpr u64 kCodeFrames = 0x20000, kDataFrames = 0x30000;
constexpr u64 kKernelBase = 0xffff800000000000;
constexpr u64 kHandlerBytes = 16;

// Page-table entry bits (SDM vol. 3A table 4-20).
constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kLarge = 1 << 7, kNoExecute = u64{1} << 63;

// Selectors as Linux has them.
constexpr u16 kKernelCs = 0x10, kUserDs = 0x2b, kUserCs = 0x33, kTaskRegister = 0x40;
constexpr u64 kKernelCodeDescriptor = 0x00af9b000000ffff, kUserDataDescriptor = 0x00cff3000000ffff,
              kUserCodeDescriptor = 0x00affb000000ffff;

SegmentRegister segment(u16 selector, u64 descriptor) {
  return {.base = 0,
          .limit = 0xffffffff,
          .selector = selector,
          .attr = static_cast<u16>(descriptor >> 40 & 0xf0ff)};
}

bool pushes_error(u8 vector) {
  switch (vector) {
    case kDF:
    case kTS:
    case kNP:
    case kSS:
    case kGP:
    case kPF:
    case kAC:
      return true;
    default:
      return false;
  }
}

// User-mode code reaches none of this.
class NoPlatform final : public Platform {
 public:
  u32 port_read(u16, unsigned) override { return ~u32{0}; }
  void port_write(u16, u32, unsigned) override {}
  u64 mmio_read(unsigned, Gpa, unsigned) override { return ~u64{0}; }
  void mmio_write(unsigned, Gpa, u64, unsigned) override {}
  u64 cr8_read(unsigned) override { return 0; }
  void cr8_write(unsigned, u64) override {}
  bool apic_msr_read(unsigned, u32, u64*) override { return false; }
  bool apic_msr_write(unsigned, u32, u64) override { return false; }
  void apic_base_written(unsigned, u64) override {}
  bool interrupt_pending(unsigned) override { return false; }
  int acknowledge_interrupt(unsigned) override { return -1; }
  u64 tsc() override { return 0; }
  GuestCallAnswer guest_call(std::string_view) override { return GuestCallAnswer::absent; }
};

}  // namespace

const char* name_of(EngineMode mode) {
  switch (mode) {
    case EngineMode::plain:
      return "plain";
    case EngineMode::single_step:
      return "single-step";
    case EngineMode::checked:
      return "checked";
    case EngineMode::soft_flags:
      return "soft-flags";
    case EngineMode::fixed_flags:
      return "fixed-flags";
    case EngineMode::chaos:
      return "chaos";
  }
  return "?";
}

struct EngineRunner::Guest {
  std::unique_ptr<GuestRam> ram;
  NoPlatform platform;
  Clock clock;
  CpuModel model;
  std::unique_ptr<Engine> engine;
  CpuState start;
  Bytes code;  // in the code pages now
  u64 code_at = 0;

  void put(u64 at, u64 value) { DEJA_CHECK(ram->write(Gpa(at), &value, sizeof value)); }
  u64 get(u64 at) {
    u64 value = 0;
    DEJA_CHECK(ram->read(Gpa(at), &value, sizeof value));
    return value;
  }
  void build_memory();
  void build_state();
};

void EngineRunner::Guest::build_memory() {
  const auto index = [](u64 address, unsigned level) { return (address >> (12 + 9 * level) & 511) * 8; };
  put(kPml4 + index(kCodeAddress, 3), kUserPdpt | kPresent | kWritable | kUser);
  put(kUserPdpt + index(kCodeAddress, 2), kUserPd | kPresent | kWritable | kUser);
  put(kUserPd + index(kCodeAddress, 1), kCodePt | kPresent | kWritable | kUser);
  put(kUserPd + index(kDataAddress, 1), kDataPt | kPresent | kWritable | kUser);
  for (u64 i = 0; i < kCodeSize; i += kPageSize)
    put(kCodePt + index(kCodeAddress + i, 0), (kCodeFrames + i) | kPresent | kUser);
  for (u64 i = 0; i < kDataSize; i += kPageSize)
    put(kDataPt + index(kDataAddress + i, 0), (kDataFrames + i) | kPresent | kWritable | kUser | kNoExecute);
  put(kPml4 + index(kKernelBase, 3), kKernelPdpt | kPresent | kWritable);
  put(kKernelPdpt + index(kKernelBase, 2), kKernelPd | kPresent | kWritable);
  put(kKernelPd + index(kKernelBase, 1), kPresent | kWritable | kLarge);

  put(kGdt + kKernelCs, kKernelCodeDescriptor);
  put(kGdt + (kUserDs & ~7), kUserDataDescriptor);
  put(kGdt + (kUserCs & ~7), kUserCodeDescriptor);
  put(kTss + 4, kKernelBase + kKernelStack);  // RSP0
  // Gates for all vectors, each to a HLT of its own; INT3 and INTO are for user code (DPL 3).
  for (u64 v = 0; v < 256; ++v) {
    const u64 handler = kKernelBase + kHandlers + v * kHandlerBytes;
    const u64 dpl = v == kBP || v == kOF ? 3 : 0;
    put(kIdt + 16 * v,
        (handler & 0xffff) | u64{kKernelCs} << 16 | (0x8e | dpl << 5) << 40 | (handler >> 16 & 0xffff) << 48);
    put(kIdt + 16 * v + 8, handler >> 32);
    put(kHandlers + v * kHandlerBytes, 0xf4);
  }
  const Bytes filler(kCodeSize, 0xcc);
  DEJA_CHECK(ram->write(Gpa(kCodeFrames), filler.data(), filler.size()));
}

void EngineRunner::Guest::build_state() {
  CpuState& s = start;
  reset_cpu(s, 0);
  s.cr0 = cr0bit::PE | cr0bit::MP | cr0bit::ET | cr0bit::NE | cr0bit::WP | cr0bit::AM | cr0bit::PG;
  s.cr3 = kPml4;
  s.cr4 = cr4bit::PAE | cr4bit::OSFXSR | cr4bit::OSXMMEXCPT | cr4bit::FSGSBASE | cr4bit::OSXSAVE;
  s.efer = eferbit::LME | eferbit::LMA | eferbit::NXE;
  s.xcr0 = 7;
  s.seg[CS] = segment(kUserCs, kUserCodeDescriptor);
  for (const Seg seg : {ES, SS, DS, FS, GS}) s.seg[seg] = segment(kUserDs, kUserDataDescriptor);
  s.seg[FS].base = kFsBase;
  s.seg[GS].base = kGsBase;
  s.tr = {.base = kKernelBase + kTss, .limit = 103, .selector = kTaskRegister, .attr = 0x8b};
  s.gdtr = {kKernelBase + kGdt, kTaskRegister + 15};
  s.idtr = {kKernelBase + kIdt, 256 * 16 - 1};
}

std::string comparable_cpu() {
  std::string name = "x86-64-v3";
  for (const CpuFeature& f : kCpuFeatures)
    if (host_has(f)) name += fmt::format(",+{}", f.name);
  return name;
}

EngineRunner::EngineRunner(EngineMode mode, u64 seed, const std::string& cpu)
    : guest_(std::make_unique<Guest>()) {
  Guest& g = *guest_;
  g.model = *parse_cpu_model(cpu);
  auto ram = GuestRam::create(2_MiB);
  DEJA_CHECK(ram.ok(), "{}", ram.error().message);
  g.ram = std::move(ram.value());
  EngineOptions options;
  options.translate.max_insns = mode == EngineMode::single_step ? 1 : options.translate.max_insns;
  if (mode == EngineMode::checked) options.translate.inline_tlb = options.translate.link = false;
  if (mode == EngineMode::soft_flags) options.translate.soft_flags = ~u32{0};
  if (mode == EngineMode::fixed_flags) options.translate.soft_flags = ~kGroupsForFixes;
  options.translate.fix_flags = mode != EngineMode::soft_flags;
  options.translate.unroll_after = 1;  // a test seldom makes many turns
  options.chaos = {mode == EngineMode::chaos, seed};
  auto engine = Engine::create(*g.ram, g.platform, g.clock, g.model, 1, options);
  DEJA_CHECK(engine.ok(), "{}", engine.error().message);
  g.engine = std::move(engine.value());
  g.build_memory();
  g.build_state();
}

EngineRunner::~EngineRunner() = default;

RunResult EngineRunner::run(const TestCase& test) {
  Guest& g = *guest_;
  const Bytes filler(g.code.size(), 0xcc);
  DEJA_CHECK(g.ram->write(Gpa(kCodeFrames + g.code_at), filler.data(), filler.size()));
  g.code = test.code();
  g.code_at = test.start - kCodeAddress;
  DEJA_CHECK(g.ram->write(Gpa(kCodeFrames + g.code_at), g.code.data(), g.code.size()));
  DEJA_CHECK(g.ram->write(Gpa(kDataFrames), test.data.data(), kDataSize));

  CpuState s = g.start;
  std::memcpy(s.gpr, test.initial.gpr, sizeof s.gpr);
  s.rip = test.start;
  s.rflags = test.initial.rflags;
  s.fpu = test.initial.fpu;
  const Step until = g.clock.steps + kMaxSteps;
  while (g.engine->run(s, until) != RunStop::inactive && g.clock.steps < until) {
  }

  RunResult r;
  std::memcpy(r.state.gpr, s.gpr, sizeof s.gpr);
  r.state.rip = s.rip;
  r.state.rflags = s.rflags;
  r.state.fpu = s.fpu;
  DEJA_CHECK(g.ram->read(Gpa(kDataFrames), r.data.data(), kDataSize));
  const u64 handler = s.rip - (kKernelBase + kHandlers);
  if (s.activity == Activity::running) {
    r.end = End::timeout;
  } else if (s.activity != Activity::halted || handler >= 256 * kHandlerBytes) {
    r.end = End::excluded;
  } else {
    r.end = End::fault;
    r.vector = static_cast<u8>(handler / kHandlerBytes);
    // The frame: error code if any, RIP, CS, RFLAGS, RSP, SS (SDM vol. 3A figure 6-9).
    u64 at = s.gpr[RSP] - kKernelBase;
    if (pushes_error(r.vector)) {
      if (r.vector == kPF) r.error = g.get(at);
      at += 8;
    }
    if (r.vector == kPF) r.cr2 = s.cr2;
    r.state.rip = g.get(at);
    r.state.rflags = g.get(at + 16);
    r.state.gpr[RSP] = g.get(at + 24);
    if (r.vector == kBP && r.state.rip == test.end() + 1) {
      r.end = End::sentinel;
      r.vector = 0;
      r.state.rip = test.end();
    }
  }
  return r;
}

}  // namespace deja::fuzz
