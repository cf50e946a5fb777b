// The disturbances of chaos mode (EngineChaos).
#include "execute/engine.h"

namespace deja {

void Engine::poison() {
  // What translated code may not rely on after a call into C++: scratch registers and the host's vector
  // registers (the guest's are reloaded from the context).
  ctx_->poison = chaos();
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

void Engine::disturb() {
  const u64 r = chaos();
  if (r % 64 == 0) {
    flush_caches();
    TranslateOptions& o = translator_->options();
    o.max_insns = 1 + chaos() % 64;
    for (bool TranslateOptions::*on :
         {&TranslateOptions::extend, &TranslateOptions::elide, &TranslateOptions::probes,
          &TranslateOptions::unroll, &TranslateOptions::far_links})
      o.*on = asked_.*on && chaos() % 4 != 0;
  } else if (r % 64 < 8) {
    spaces_.flush_all();
  } else if (r % 64 < 16) {
    spaces_.flush_all_jumps();
  } else if (r % 64 == 16) {
    spaces_.give_up_far_links();
  } else if (r % 64 < 32) {
    // Mark pages dirty that are not.
    for (int i = 0; i < 4; ++i) {
      const u64 frame = chaos() % ram_.frames();
      if (ram_.contains(Gpa(frame << kPageShift)) && !ram_.is_absent(frame)) ram_.mark_dirty(frame);
    }
  }
}

}  // namespace deja
