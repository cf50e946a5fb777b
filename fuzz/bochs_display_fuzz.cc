// The framebuffer under a driver that sets anything: a mode that it shows lies within video memory.
#include "devices/bochs_display.h"

#include "base/check.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr u64 kRegisters = 0x500;

std::vector<u8> saved(const BochsDisplay& display) {
  StateWriter w;
  display.save(w);
  return w.take();
}

void check_mode(const BochsDisplay& display, u64 memory) {
  const std::optional<ScreenMode> mode = display.mode();
  if (!mode) return;
  const u64 line = u64{mode->size.width} * mode->bytes_per_pixel;
  DEJA_CHECK(line > 0 && mode->size.height > 0 && mode->stride >= line);
  DEJA_CHECK(mode->offset <= memory && (mode->size.height - 1) * mode->stride + line <= memory - mode->offset,
             "pixels outside video memory");
}

}  // namespace

void run_case(Random& random) {
  const ScreenSize size =
      random.pick<ScreenSize>({BochsDisplay::kSmallest, {1024, 768}, BochsDisplay::kLargest});
  const u64 memory = BochsDisplay::memory_for(size);
  std::optional<u64> window;
  const auto window_moved = [&](std::optional<u64> start) {
    DEJA_CHECK(start != window, "told of no move");
    DEJA_CHECK(!start || *start % memory == 0);
    window = start;
  };
  BochsDisplay display(size, window_moved);
  display.reset();
  if (random.one_in(2)) display.switch_on();
  for (unsigned i = 0; i < 300; ++i) {
    const unsigned width = 1u << random.below(4);
    switch (random.below(5)) {
      case 0: {
        const u64 offset = random.one_in(2) ? kRegisters + random.below(32) : random.below(4_KiB - width + 1);
        display.bar_write(2, offset, random.edgy(), width);
        (void)display.bar_read(2, offset, width);
        break;
      }
      case 1:  // a mode that could be, but for one thing or two
        display.bar_write(
            2, kRegisters + 2 + 2 * random.below(9),
            random.one_in(3) ? random.edgy() : random.pick<u64>({0, 1, 0x41, 16, 24, 32, 640, 1080, 1920}),
            2);
        break;
      case 2: {
        const unsigned bytes = 1u << random.below(3);
        const unsigned at =
            static_cast<unsigned>(random.one_in(2) ? 0x10 + random.below(12) : random.below(256));
        display.config_write(at & ~(bytes - 1), static_cast<u32>(random.edgy()), bytes);
        (void)display.config_read(at & ~(bytes - 1), bytes);
        break;
      }
      case 3:
        display.config_write(4, static_cast<u32>(random.below(8)), 2);
        break;
      default:
        (void)display.bar_read(0, random.below(memory - 8), width);
    }
    check_mode(display, memory);
    DEJA_CHECK(display.window() == window, "the window is not where the machine was told");
  }
  std::vector<u8> state = saved(display);
  BochsDisplay other(size, [](std::optional<u64>) {});
  StateReader r(state);
  DEJA_CHECK(other.restore(r) && r.at_end() && saved(other) == state, "not restored as it was");
  // A checkpoint may hold anything.
  for (unsigned i = 0; i < 10; ++i) state[random.below(state.size())] = static_cast<u8>(random());
  StateReader hostile(state);
  (void)other.restore(hostile);
  check_mode(other, memory);
}

}  // namespace deja::fuzz
