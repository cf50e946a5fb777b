// How far a long operation has come: one line that is drawn again and again, on a terminal only.
#pragma once

#include <string>

#include "base/types.h"

namespace deja {

class ProgressBar {
 public:
  // `what` stands before the bar. Draws on standard error.
  explicit ProgressBar(std::string what);
  ~ProgressBar() { clear(); }

  void update(u64 done, u64 all);
  void clear();

 private:
  std::string what_;
  bool terminal_ = false;
  int shown_ = -1;  // percent
};

}  // namespace deja
