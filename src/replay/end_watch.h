// What ends a live session by itself: a text on COM1 and the silence after it, a mark (`--until`), a guest
// that cannot even start, or the machine's own end. All of it is judged by the guest's time and steps.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eventlog/events.h"
#include "machine/machine.h"
#include "replay/end_condition.h"

namespace deja {

// End::detail of a guest that ended by triple fault with --no-reboot.
inline constexpr std::string_view kTripleFault = "triple fault";

class EndWatch {
 public:
  // `resets`: how often the machine has been reset so far.
  EndWatch(const std::vector<EndCondition>& until, u64 resets);

  // The guest has sent `text` on COM1.
  void hear(std::string_view text, VtimeNs now);
  // After a text that ends the session: has the guest said what it had to say? What follows a panic is worth
  // as much as the line that was waited for. `idle_for_good`: only an input can wake the guest.
  std::optional<event::End> after_last_words(VtimeNs now, bool idle_for_good) const;
  std::optional<event::End> at_mark(std::string_view text) const;
  // The machine has been reset `resets` times. A guest that cannot even start is reset again and again;
  // nobody waits for the thousandth time.
  std::optional<event::End> after_resets(u64 resets, Step now);

 private:
  struct Watched {
    EndCondition condition;
    TextWatch watch;
  };
  std::vector<Watched> texts_;
  std::vector<EndCondition> marks_;
  std::string said_;                         // the first of the texts that was; else empty
  VtimeNs said_at_ = 0, last_spoke_at_ = 0;  // then; and when anything was said last
  u64 seen_resets_ = 0, stillborn_ = 0;
  Step last_reset_step_ = 0;
};

// Why a machine that has ended did.
event::End end_of(const Machine& machine);

}  // namespace deja
