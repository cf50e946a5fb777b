#include "replay/end_watch.h"

#include "base/printable.h"

namespace deja {
namespace {

constexpr u64 kMillisecond = 1'000'000, kSecond = 1'000'000'000;
// A session that ends after a text ends when nothing was said for so long, or after so long.
constexpr VtimeNs kSilenceNs = 100 * kMillisecond, kLastWordsNs = 2 * kSecond;
constexpr Step kStillbornSteps = 100'000;  // a guest that resets itself before this has not started
constexpr u64 kStillbornLimit = 20;

event::End asked_for(const std::string& shown) { return {event::EndReason::quit, 0, shown}; }

}  // namespace

EndWatch::EndWatch(const std::vector<EndCondition>& until, u64 resets) : seen_resets_(resets) {
  for (const EndCondition& c : until) {
    if (c.kind == EndCondition::Kind::serial)
      texts_.push_back({c, TextWatch(c.text)});
    else
      marks_.push_back(c);
  }
}

void EndWatch::hear(std::string_view text, VtimeNs now) {
  last_spoke_at_ = now;
  for (Watched& w : texts_) {
    if (!w.watch.seen_in(text) || !said_.empty()) continue;
    said_ = w.condition.shown;
    said_at_ = now;
  }
}

std::optional<event::End> EndWatch::after_last_words(VtimeNs now, bool idle_for_good) const {
  if (said_.empty()) return std::nullopt;
  if (!idle_for_good && now - last_spoke_at_ < kSilenceNs && now - said_at_ < kLastWordsNs)
    return std::nullopt;
  return asked_for(said_);
}

std::optional<event::End> EndWatch::at_mark(std::string_view text) const {
  for (const EndCondition& c : marks_)
    if (c.text == text) return asked_for(c.shown);
  return std::nullopt;
}

std::optional<event::End> EndWatch::after_resets(u64 resets, Step now) {
  if (resets == seen_resets_) return std::nullopt;
  const bool at_once = now - last_reset_step_ < (resets - seen_resets_) * kStillbornSteps;
  stillborn_ = at_once ? stillborn_ + (resets - seen_resets_) : 0;
  seen_resets_ = resets;
  last_reset_step_ = now;
  if (stillborn_ < kStillbornLimit) return std::nullopt;
  return event::End{event::EndReason::shutdown, 0,
                    "the guest resets itself right after every start (a triple fault?): is this kernel made "
                    "for this machine?"};
}

event::End end_of(const Machine& machine) {
  using enum event::EndReason;
  switch (machine.end()) {
    case MachineEnd::power_off:
      return {power_off, 0, {}};
    case MachineEnd::debug_exit:
      // isa-debug-exit makes the status (value << 1) | 1; the log holds the value.
      return {debug_exit, machine.exit_status() >> 1, {}};
    case MachineEnd::reset:
      return {reset, 0, "the guest reset the machine"};
    case MachineEnd::triple_fault:
      return {shutdown, 0, std::string(kTripleFault)};
    case MachineEnd::guest_exit:
      return {power_off, machine.exit_status(), "a program in the guest asked for it"};
    case MachineEnd::none:
      break;
  }
  DEJA_UNREACHABLE("the machine ended for no reason");
}

}  // namespace deja
