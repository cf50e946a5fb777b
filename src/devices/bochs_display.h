// QEMU's bochs-display: a linear framebuffer without VGA (docs/specs/standard-vga.rst there). BAR 0 is a
// window to video memory, BAR 2 has the mode's registers, which drivers know as those of the Bochs VBE
// extensions, and an EDID block that names the preferred size. Nothing is ever scanned out: a picture is made
// when somebody asks.
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "devices/pci/pci_bus.h"

namespace deja {

struct ScreenSize {
  u16 width = 0, height = 0;
  bool operator==(const ScreenSize&) const = default;
};

// The place of the pixels, all within video memory.
struct ScreenMode {
  ScreenSize size;
  unsigned bytes_per_pixel =
      4;  // 2 (red in bits 15:11, green 10:5, blue 4:0), 3 or 4 (blue, green, red, nothing)
  u64 offset = 0, stride = 0;  // in bytes: of the first pixel, from one line to the next
};

class BochsDisplay final : public PciFunction {
 public:
  static constexpr ScreenSize kSmallest{320, 200}, kLargest{1920, 1080};
  // Bytes for two pictures of this size, at 4 bytes a pixel, as a power of two. Linux's bochs-drm takes only
  // modes of which it can keep two pictures, one to show and one to draw.
  static u64 memory_for(ScreenSize size);

  // `window_moved` is told where the window to video memory is to be now.
  using WindowMoved = std::function<void(std::optional<u64> start)>;
  BochsDisplay(ScreenSize preferred, WindowMoved window_moved);

  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  u64 bar_read(unsigned bar, u64 offset, unsigned size) override;
  void bar_write(unsigned bar, u64 offset, u64 value, unsigned size) override;

  // Sets the screen as firmware leaves it to an operating system: the preferred size, 32 bits a pixel, and
  // the window open where the BAR says.
  void switch_on();
  // Nothing while the screen is off, or set to what video memory cannot hold.
  std::optional<ScreenMode> mode() const;
  std::optional<u64> window() const { return bar_address(0); }

 protected:
  void bar_changed(unsigned bar) override;

 private:
  // Index of the mode's registers, 16 bits each.
  enum Register {
    kId,
    kWidth,
    kHeight,
    kDepth,
    kEnable,
    kBank,
    kLineWidth,
    kLines,
    kX,
    kY,
    kMemory,
    kRegisters
  };
  u16 read_register(unsigned index) const;

  const ScreenSize preferred_;
  const u64 memory_;
  const std::array<u8, 128> edid_;
  const WindowMoved window_moved_;
  std::array<u16, kRegisters> registers_{};
};

}  // namespace deja
