// Chaos mode: disturbs everything that must not matter, from a seed, as proof of rule 3
// (docs/determinism.md).
#pragma once

#include "translate/exec_context.h"
#include "translate/form.h"

namespace deja {

struct EngineChaos {
  bool enabled = false;
  u64 seed = 0;
};

// What is done to an engine's caches.
enum class Disturbance : u8 { none, drop_code, drop_spaces, drop_jumps, drop_far_links, mark_pages_dirty };

class Chaos {
 public:
  // `asked`: what is off there stays off.
  Chaos(const EngineChaos& chaos, const TranslateOptions& asked);

  bool on() const { return on_; }
  u64 draw() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }
  bool one_in(unsigned n) { return on_ && draw() % n == 0; }

  // At the engine's start.
  void vary(TranslateOptions& options);
  // When all code is dropped.
  void vary_again(TranslateOptions& options);
  // The most instructions that the next block may have, or 0: no limit.
  unsigned draw_limit();
  Disturbance draw_disturbance();
  // Fills what translated code may not rely on after a call into C++: scratch registers and the host's vector
  // registers (the guest's are reloaded from the context).
  void poison(ExecContext& context);

 private:
  bool on_;
  u64 state_;
  TranslateOptions asked_;
};

}  // namespace deja
