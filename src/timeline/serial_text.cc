#include "timeline/serial_text.h"

#include <algorithm>

namespace deja {
namespace {

constexpr Step kPiece = 50'000'000;  // a scan that has found what it is for goes on to the end of one

// Goes from `from` to `to`, or until `done`, and hands over what is sent with the step that completes it.
Status listen(Navigator& nav, Step from, Step to, const std::function<void(char, Step)>& byte,
              const std::function<bool()>& done) {
  DEJA_TRY(nav.seek(from));
  Machine& machine = nav.machine();
  // The OUT in progress is the step after the clock's.
  machine.on_serial([&](u8 b) { byte(static_cast<char>(b), machine.clock().steps + 1); });
  Status status;
  while (status && nav.position() < to && !done())
    status = nav.scan_to(std::min(to, nav.position() + kPiece));
  machine.on_serial({});
  return status;
}

}  // namespace

Result<std::string> serial_text(Navigator& nav, Step from, Step to) {
  std::string text;
  DEJA_TRY(listen(
      nav, from, to, [&](char c, Step) { text.push_back(c); }, [] { return false; }));
  return text;
}

Result<SerialSearch> SerialSearch::open(Navigator& nav) {
  SerialSearch search(nav);
  const CheckpointReader& checkpoints = nav.checkpoints();
  Step known_to = nav.first();
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    const CheckpointPoint& p = checkpoints.point(i);
    if (p.step > nav.last()) break;
    if (p.step == known_to) continue;  // the base
    if (checkpoints.knows_serial(i)) {
      search.stretches_.push_back({known_to, p.step, search.text_.size()});
      search.text_ += p.serial;
    } else {
      DEJA_ASSIGN(const std::string text, serial_text(nav, known_to, p.step));
      search.stretches_.push_back({known_to, p.step, search.text_.size()});
      search.text_ += text;
    }
    known_to = p.step;
  }
  if (known_to < nav.last()) {
    DEJA_ASSIGN(const std::string text, serial_text(nav, known_to, nav.last()));
    search.stretches_.push_back({known_to, nav.last(), search.text_.size()});
    search.text_ += text;
  }
  return search;
}

std::size_t SerialSearch::find(std::string_view text) {
  found_.clear();
  for (std::size_t at = text_.find(text); at != text_.npos; at = text_.find(text, at + 1))
    found_.push_back(at + text.size() - 1);
  return found_.size();
}

Result<Step> SerialSearch::step_of(std::size_t i) {
  DEJA_CHECK(i < found_.size(), "place {} of {}", i, found_.size());
  const std::size_t wanted = found_[i];
  const auto after = std::upper_bound(stretches_.begin(), stretches_.end(), wanted,
                                      [](std::size_t at, const Stretch& s) { return at < s.text; });
  DEJA_CHECK(after != stretches_.begin(), "byte {} is sent before anything is", wanted);
  const Stretch& stretch = *std::prev(after);
  std::size_t at = stretch.text;
  std::optional<Step> step;
  DEJA_TRY(listen(
      nav_, stretch.from, stretch.to,
      [&](char, Step now) {
        if (at++ == wanted) step = now;
      },
      [&] { return step.has_value(); }));
  if (!step)
    return make_error("{}: the guest does not send what the checkpoints say; `deja index` makes new ones",
                      nav_.dir().string());
  return *step;
}

}  // namespace deja
