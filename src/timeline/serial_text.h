// What the guest sent on COM1, and when.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "timeline/navigator.h"

namespace deja {

// What was sent after `from` and up to `to`, where it leaves the machine.
Result<std::string> serial_text(Navigator& nav, Step from, Step to);

// Finds texts in all that was sent. Checkpoints hold what was sent between them, so that only the interval in
// which a text was completed has to be replayed, and what lies behind the last one.
class SerialSearch {
 public:
  // Moves `nav` anywhere, and so do the others. An error: the replay does not get to the end as recorded.
  static Result<SerialSearch> open(Navigator& nav);

  // How often it occurs; also overlapping with itself.
  std::size_t find(std::string_view text);
  // The first step at which occurrence `i`, from 0, of what find() was asked for had been sent completely.
  Result<Step> step_of(std::size_t i);

 private:
  explicit SerialSearch(Navigator& nav) : nav_(nav) {}

  // What was sent after one step and up to another.
  struct Stretch {
    Step from = 0, to = 0;
    std::size_t text = 0;  // where it begins in text_
  };
  Navigator& nav_;
  std::string text_;
  std::vector<Stretch> stretches_;
  std::vector<std::size_t> found_;  // the last byte of each occurrence
};

}  // namespace deja
