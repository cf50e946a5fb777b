#include "execute/chaos.h"

namespace deja {

Chaos::Chaos(const EngineChaos& chaos, const TranslateOptions& asked)
    : on_(chaos.enabled), state_(chaos.seed * 0x9e3779b97f4a7c15u + 0x1234567), asked_(asked) {}

void Chaos::vary(TranslateOptions& o) {
  if (!on_) return;
  o.max_insns = 1 + draw() % 64;
  for (const EngineSwitch& s : kEngineSwitches)
    if (s.on != &TranslateOptions::inline_tlb) o.*s.on &= draw() % 4 != 0;
  o.unroll_after = 1 + draw() % 8;
  if (draw() % 2) o.soft_flags = static_cast<u32>(draw());
}

void Chaos::vary_again(TranslateOptions& o) {
  o.max_insns = 1 + draw() % 64;
  for (bool TranslateOptions::*on :
       {&TranslateOptions::extend, &TranslateOptions::elide, &TranslateOptions::probes,
        &TranslateOptions::unroll, &TranslateOptions::far_links})
    o.*on = asked_.*on && draw() % 4 != 0;
}

unsigned Chaos::draw_limit() {
  const u64 r = draw();
  return r % 16 == 0 ? 1 + (r >> 8) % 5 : 0;
}

Disturbance Chaos::draw_disturbance() {
  const u64 r = draw() % 64;
  if (r == 0) return Disturbance::drop_code;
  if (r < 8) return Disturbance::drop_spaces;
  if (r < 16) return Disturbance::drop_jumps;
  if (r == 16) return Disturbance::drop_far_links;
  return r < 32 ? Disturbance::mark_pages_dirty : Disturbance::none;
}

void Chaos::poison(ExecContext& context) {
  context.poison = draw();
  asm volatile(
      "vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n vmovdqa %%ymm0, %%ymm1\n vmovdqa %%ymm0, %%ymm2\n"
      "vmovdqa %%ymm0, %%ymm3\n vmovdqa %%ymm0, %%ymm4\n vmovdqa %%ymm0, %%ymm5\n"
      "vmovdqa %%ymm0, %%ymm6\n vmovdqa %%ymm0, %%ymm7\n vmovdqa %%ymm0, %%ymm8\n"
      "vmovdqa %%ymm0, %%ymm9\n vmovdqa %%ymm0, %%ymm10\n vmovdqa %%ymm0, %%ymm11\n"
      "vmovdqa %%ymm0, %%ymm12\n vmovdqa %%ymm0, %%ymm13\n vmovdqa %%ymm0, %%ymm14\n"
      "vmovdqa %%ymm0, %%ymm15\n" ::
          : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
            "xmm12", "xmm13", "xmm14", "xmm15");
}

}  // namespace deja
