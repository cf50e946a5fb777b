#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace deja {
namespace {

constexpr int kWidth = 40;  // characters

}  // namespace

ProgressBar::ProgressBar(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO)) {}

void ProgressBar::update(u64 done, u64 all) {
  if (!terminal_ || all == 0) return;
  const int percent = static_cast<int>(u128{done} * 100 / all);
  if (percent == shown_) return;
  shown_ = percent;
  const int filled = percent * kWidth / 100;
  fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {:3}%", what_, "", filled, "", kWidth - filled, percent);
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (shown_ < 0) return;
  fmt::print(stderr, "\r{:{}}\r", "", static_cast<int>(what_.size()) + kWidth + 10);
  std::fflush(stderr);
  shown_ = -1;
}

}  // namespace deja
