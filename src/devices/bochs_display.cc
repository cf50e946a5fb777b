#include "devices/bochs_display.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace deja {
namespace {

constexpr unsigned kWindowBar = 0, kRegisterBar = 2;
constexpr u64 kRegisterWindow = 4_KiB, kRegistersAt = 0x500, kExtensionAt = 0x600;
constexpr u16 kVersion = 0xb0c5;  // the ID register
constexpr u16 kEnabled = 1;       // in the enable register
constexpr u16 kLinear = 0x40;
// The extension block: its size, and that pixels are little-endian.
constexpr u8 kExtension[8] = {8, 0, 0, 0, 0x1e, 0x1e, 0x1e, 0x1e};
constexpr u64 kMemoryUnit = 64_KiB;

// EDID 1.4: a digital display that prefers this size at 60 Hz, with the blanking of CVT's reduced timings.
std::array<u8, 128> make_edid(ScreenSize size) {
  std::array<u8, 128> edid{0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
  edid[8] = 0x11, edid[9] = 0x36;  // "DIV"
  edid[17] = 30;                   // 2020
  edid[18] = 1, edid[19] = 4;
  edid[20] = 0xa5;  // digital, 8 bits a colour
  edid[23] = 120;   // gamma 2.2
  edid[24] = 6;     // sRGB; the first timing is preferred
  constexpr u8 kSrgb[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
  std::copy(std::begin(kSrgb), std::end(kSrgb), edid.begin() + 25);
  std::fill(edid.begin() + 38, edid.begin() + 54, u8{1});  // no standard timings

  constexpr unsigned kHorizontalBlank = 160, kVerticalBlank = 40;
  const unsigned width = size.width, height = size.height;
  const unsigned clock = (width + kHorizontalBlank) * (height + kVerticalBlank) * 60 / 10'000;  // 10 kHz
  u8* const t = &edid[54];
  t[0] = static_cast<u8>(clock), t[1] = static_cast<u8>(clock >> 8);
  t[2] = static_cast<u8>(width), t[3] = kHorizontalBlank;
  t[4] = static_cast<u8>(width >> 8 << 4);
  t[5] = static_cast<u8>(height), t[6] = kVerticalBlank;
  t[7] = static_cast<u8>(height >> 8 << 4);
  t[8] = 48, t[9] = 32, t[10] = 3 << 4 | 5;  // sync: offset and width, horizontal and vertical
  t[17] = 0x1a;                              // separate syncs, horizontal positive
  for (u8* descriptor = t + 18; descriptor < t + 72; descriptor += 18) descriptor[3] = 0x10;  // unused
  u8 sum = 0;
  for (const u8 b : edid) sum = static_cast<u8>(sum + b);
  edid[127] = static_cast<u8>(-sum);
  return edid;
}

}  // namespace

u64 BochsDisplay::memory_for(ScreenSize size) {
  return std::bit_ceil(std::max<u64>(2 * u64{size.width} * size.height * 4, kMemoryUnit));
}

BochsDisplay::BochsDisplay(ScreenSize preferred, WindowMoved window_moved)
    : PciFunction("bochs_display", {0x1234, 0x1111, 0x038000, 2, 0x1af4, 0x1100}),
      preferred_(preferred),
      memory_(memory_for(preferred)),
      edid_(make_edid(preferred)),
      window_moved_(std::move(window_moved)) {
  add_bar(kWindowBar, BarKind::memory32, memory_);
  add_bar(kRegisterBar, BarKind::memory32, kRegisterWindow);
}

void BochsDisplay::reset() {
  PciFunction::reset();
  registers_.fill(0);
}

void BochsDisplay::save(StateWriter& w) const {
  PciFunction::save(w);
  w.field(registers_);
}

bool BochsDisplay::restore(StateReader& r) {
  const bool ok = PciFunction::restore(r);
  r.field(registers_);
  if (ok && r.ok()) return true;
  reset();
  return false;
}

void BochsDisplay::bar_changed(unsigned bar) {
  if (bar == kWindowBar) window_moved_(bar_address(bar));
}

void BochsDisplay::switch_on() {
  constexpr unsigned kCommand = 4;
  constexpr u32 kMemorySpace = 2;
  config_write(kCommand, config(kCommand, 2) | kMemorySpace, 2);
  registers_[kWidth] = registers_[kLineWidth] = preferred_.width;
  registers_[kHeight] = registers_[kLines] = preferred_.height;
  registers_[kDepth] = 32;
  registers_[kEnable] = kEnabled | kLinear;
}

std::optional<ScreenMode> BochsDisplay::mode() const {
  const auto& r = registers_;
  const unsigned depth = r[kDepth];
  if (!(r[kEnable] & kEnabled) || !r[kWidth] || !r[kHeight]) return std::nullopt;
  if (depth != 16 && depth != 24 && depth != 32) return std::nullopt;
  ScreenMode mode{{r[kWidth], r[kHeight]}, depth / 8};
  mode.stride = u64{std::max(r[kLineWidth], r[kWidth])} * mode.bytes_per_pixel;
  mode.offset = r[kY] * mode.stride + u64{r[kX]} * mode.bytes_per_pixel;
  const u64 end = mode.offset + (mode.size.height - 1) * mode.stride + u64{r[kWidth]} * mode.bytes_per_pixel;
  if (end > memory_) return std::nullopt;
  return mode;
}

u16 BochsDisplay::read_register(unsigned index) const {
  if (index == kId) return kVersion;
  if (index == kMemory) return static_cast<u16>(memory_ / kMemoryUnit);
  return registers_[index];
}

// The window to video memory is no access to a device: the machine maps memory there.
u64 BochsDisplay::bar_read(unsigned bar, u64 offset, unsigned size) {
  if (bar != kRegisterBar) return ~u64{0};
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u64 at = offset + i;
    u8 byte = 0;
    if (at < edid_.size())
      byte = edid_[at];
    else if (at >= kRegistersAt && at < kRegistersAt + 2 * kRegisters)
      byte = static_cast<u8>(read_register(static_cast<unsigned>(at - kRegistersAt) / 2) >> (8 * (at & 1)));
    else if (at >= kExtensionAt && at < kExtensionAt + sizeof kExtension)
      byte = kExtension[at - kExtensionAt];
    value |= u64{byte} << (8 * i);
  }
  return value;
}

void BochsDisplay::bar_write(unsigned bar, u64 offset, u64 value, unsigned size) {
  if (bar != kRegisterBar || offset % 2) return;
  for (unsigned i = 0; i + 2 <= size; i += 2) {
    const u64 at = offset + i;
    if (at < kRegistersAt || at >= kRegistersAt + 2 * kRegisters) continue;
    const auto index = static_cast<unsigned>(at - kRegistersAt) / 2;
    if (index != kId && index != kMemory) registers_[index] = static_cast<u16>(value >> (8 * i));
  }
}

}  // namespace deja
