// What an address reaches, whatever a guest has programmed into the BARs: one model of the memory map for
// random BARs on top of, beside and beyond everything there is.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include "machine/machine.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

constexpr u64 kRam = 32_MiB, kVideo = 4_MiB;
constexpr u32 kNothing = ~u32{0};

// An independent copy of what docs/devices.md says of the memory map of a machine with little RAM.
struct Range {
  u64 first, size;
  bool holds(u64 at, u64 bytes) const {
    return at >= first && at - first < size && bytes <= size - (at - first);
  }
};
constexpr Range kLowWindow{2_GiB, 0xe0000000 - 2_GiB}, kHighWindow{0xe2000000, 0xfec00000 - 0xe2000000};

bool decodes(u64 at, u64 size) { return kLowWindow.holds(at, size) || kHighWindow.holds(at, size); }

struct ModelBar {
  unsigned slot, bar;
  u64 size;
  bool video = false;
  u32 programmed = 0;
  // What can be read at some offsets of it while nobody writes there.
  std::vector<std::pair<u64, u32>> content = {};
};

u32 pattern(u64 at) { return static_cast<u32>(at * 0x9e3779b9u >> 7) | 1; }
// Four bytes of memory that is filled with it, at any address.
u32 filled(u64 at) {
  const u64 low = at & ~u64{3}, words = u64{pattern(low + 4)} << 32 | pattern(low);
  return static_cast<u32>(words >> (8 * (at & 3)));
}

class PciWindows : public testing::Test {
 protected:
  PciWindows() {
    // A Multiboot kernel that is never run.
    const std::array<u32, 9> kernel{0x1badb002, 0x10000, 0xe4514ffe, 0x100000, 0x100000,
                                    0,          0,       0x100020,   0xf4};
    kernel_.resize(sizeof kernel);
    std::memcpy(kernel_.data(), kernel.data(), sizeof kernel);
    MachineConfig config;
    config.ram_bytes = kRam;
    config.screen = ScreenSize{640, 480};
    config.console = true;
    config.nic = MacAddress{0x52, 0x54, 0, 1, 2, 3};
    config.boot.kernel = {"kernel", kernel_};
    auto machine = Machine::create(config, {});
    DEJA_CHECK(machine.ok(), "{}", machine.error().message);
    machine_ = std::move(*machine);
    fill(0, kRam);
    fill(kVideoMemory, kVideo);
    apic_version_ = access(kLapicBase + 0x30);
    for (ModelBar& b : bars_) learn(b);
  }

  void fill(u64 first, u64 size) {
    std::vector<u32> words(size / 4);
    for (u64 i = 0; i < words.size(); ++i) words[i] = pattern(first + 4 * i);
    DEJA_CHECK(machine_->ram().write(Gpa(first), words.data(), size));
  }

  // As the engine makes an access of a translated page: resolved, then memory or the bus.
  u32 access(u64 at) {
    const Gpa to = machine_->ram().resolve(Gpa(at));
    u32 value = 0;
    if (!machine_->ram().contains(to.page())) return static_cast<u32>(machine_->mmio_read(0, to, 4));
    DEJA_CHECK(machine_->ram().read(to, &value, 4), "{:#x} reaches {:#x}", at, to.value);
    return value;
  }

  void select(unsigned slot, unsigned offset) {
    machine_->port_write(kPciConfigAddressPort, u32{1} << 31 | slot << 11 | offset, 4);
  }
  u32 config(unsigned slot, unsigned offset) {
    select(slot, offset);
    return machine_->port_read(kPciConfigDataPort, 4);
  }
  // By ports or through memory.
  void set_config(unsigned slot, unsigned offset, u32 value) {
    if (random_() % 2) {
      select(slot, offset);
      machine_->port_write(kPciConfigDataPort, value, 4);
    } else {
      machine_->mmio_write(0, Gpa(kEcamBase + (u64{slot} << 15) + offset), value, 4);
    }
  }

  void learn(ModelBar& b) {
    set_config(b.slot, 4, 2);
    b.programmed = config(b.slot, 0x10 + 4 * b.bar) & ~15u;
    enabled_[b.slot] = true;
    if (b.video) return;
    for (const u64 offset : {0x0, 0x12, 0x18, 0x500, 0x600, 0x2000})
      if (offset + 4 <= b.size)
        b.content.emplace_back(offset,
                               static_cast<u32>(machine_->mmio_read(0, Gpa(b.programmed + offset), 4)));
  }

  // Nothing: the model does not say.
  std::optional<u32> expected(u64 at) const {
    if (Range{0, kRam}.holds(at, 4) || Range{kVideoMemory, kVideo}.holds(at, 4)) return filled(at);
    for (const ModelBar& b : bars_)
      if (b.video && enabled_[b.slot] && decodes(b.programmed, b.size) &&
          Range{b.programmed, b.size}.holds(at, 4))
        return filled(kVideoMemory + (at - b.programmed));
    if (at == kLapicBase + 0x30) return apic_version_;
    if (Range{kEcamBase, kEcamSize}.holds(at, 4)) return std::nullopt;
    if (Range{kIoapicBase, kIoapicSize}.holds(at, 4) || Range{kLapicBase, kLapicSize}.holds(at, 4))
      return std::nullopt;
    if (!decodes(at, 4)) return kNothing;
    for (const ModelBar& b : bars_) {  // in order of slots
      if (!enabled_[b.slot] || !Range{b.programmed, b.size}.holds(at, 4)) continue;
      if (b.video) return kNothing;  // of it nothing is shown when not all can be
      for (const auto& [offset, value] : b.content)
        if (b.programmed + offset == at) return value;
      return std::nullopt;
    }
    return kNothing;
  }

  void check(u64 at) {
    const std::optional<u32> value = expected(at);
    const u32 found = access(at);
    if (value) {
      ASSERT_EQ(found, *value) << std::hex << "at " << at;
    }
  }

  void check_all() {
    for (const u64 at : {u64{0}, 0x200000ul, 0x3ffffcul, 0x400000ul, kRam - 4, kRam, kVideoMemory,
                         kVideoMemory + kVideo - 4, kVideoMemory + kVideo, kLapicBase + 0x30, u64{2_GiB},
                         0xdffffffcul, 0xe2000000ul, 0xfebffffcul, 0xfffffffcul, 0x100000000ul})
      check(at);
    for (const ModelBar& b : bars_) {
      for (const auto& [offset, value] : b.content) check(b.programmed + offset);
      for (const u64 at : {b.programmed + 0ul, b.programmed + b.size - 4, b.programmed + b.size,
                           b.programmed - 4ul, b.programmed + (random_() % b.size & ~u64{3})})
        check(at & 0xffff'ffff'fffc);
    }
  }

  u32 somewhere() {
    const std::array<u64, 14> places{0,           0x200000,   kRam - 4096,    kRam,       2_GiB,
                                     0xdfc00000,  kEcamBase,  kVideoMemory,   kPciGapEnd, 0xfe800000,
                                     kIoapicBase, kLapicBase, 4_GiB - kVideo, 0xfffff000};
    switch (random_() % 5) {
      case 0:
        return ~u32{0};  // sizing
      case 1:
        return static_cast<u32>(random_());
      case 2:
        return bars_[random_() % bars_.size()].programmed;  // on top of another one
      default:
        return static_cast<u32>(places[random_() % places.size()]);
    }
  }

  // In order of slots.
  std::vector<ModelBar> bars_{
      {kConsoleSlot, 1, 4_KiB},       {kConsoleSlot, 4, 16_KiB}, {kNicSlot, 1, 4_KiB}, {kNicSlot, 4, 16_KiB},
      {kScreenSlot, 0, kVideo, true}, {kScreenSlot, 2, 4_KiB},   {kRngSlot, 1, 4_KiB}, {kRngSlot, 4, 16_KiB}};
  std::array<bool, 32> enabled_{};
  u32 apic_version_ = 0;
  std::vector<u8> kernel_;
  std::unique_ptr<Machine> machine_;
  std::mt19937_64 random_{1};
};

TEST_F(PciWindows, EveryAddressReachesWhatTheModelSays) {
  const char* const text = std::getenv("DEJA_SEED");
  const u64 seed = text ? std::strtoull(text, nullptr, 0) : 1;
  random_.seed(seed);
  SCOPED_TRACE(testing::Message() << "DEJA_SEED=" << seed);
  check_all();
  for (int i = 0; i < 3000; ++i) {
    ModelBar& b = bars_[random_() % bars_.size()];
    if (random_() % 4 == 0) {
      enabled_[b.slot] = !enabled_[b.slot];
      set_config(b.slot, 4, enabled_[b.slot] ? 2 : 0);
    } else {
      const u32 value = somewhere();
      set_config(b.slot, 0x10 + 4 * b.bar, value);
      b.programmed = static_cast<u32>(value & ~(b.size - 1));
      ASSERT_EQ(config(b.slot, 0x10 + 4 * b.bar), b.programmed);
    }
    check_all();
    if (HasFatalFailure()) return;
  }
}

// A restored machine decodes as the saved one did, wherever its windows stood before.
TEST_F(PciWindows, ARestoredMachineDecodesWhatItsBarsSay) {
  ModelBar& video = bars_[4];
  for (const u32 first : {0xe4000000u, 0u, 0xffc00000u, 0xc0000000u}) {
    set_config(kScreenSlot, 0x10, first);
    video.programmed = first;
    const MachineState state{machine_->save_cpus(), machine_->save_devices(), machine_->save_disks()};
    for (const bool on : {false, true}) {
      set_config(kScreenSlot, 0x10, 0x80000000);
      set_config(kScreenSlot, 4, on ? 2 : 0);
      ASSERT_TRUE(machine_->restore(state).ok());
      check_all();
    }
  }
}

}  // namespace
}  // namespace deja
