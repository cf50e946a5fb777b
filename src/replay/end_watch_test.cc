#include "replay/end_watch.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

constexpr VtimeNs kMs = 1'000'000;

EndWatch watch_for(const char* condition) { return EndWatch({parse_end_condition(condition).value()}, 0); }

TEST(EndWatch, WaitsForSilenceBehindTheText) {
  EndWatch watch = watch_for("serial:\"login:\"");
  watch.hear("log", 0);
  EXPECT_FALSE(watch.after_last_words(1000 * kMs, true)) << "nothing was said that anybody waits for";
  watch.hear("in: ", 1000 * kMs);
  EXPECT_FALSE(watch.after_last_words(1099 * kMs, false));
  watch.hear("more", 1099 * kMs);
  EXPECT_FALSE(watch.after_last_words(1198 * kMs, false));
  EXPECT_EQ(watch.after_last_words(1199 * kMs, false),
            (event::End{event::EndReason::quit, 0, "--until serial:\"login:\""}));
}

TEST(EndWatch, AGuestThatTalksOnHasTwoSeconds) {
  EndWatch watch = watch_for("panic");
  watch.hear(kPanicText, 0);
  watch.hear("…", 1999 * kMs);
  EXPECT_FALSE(watch.after_last_words(1999 * kMs, false));
  EXPECT_TRUE(watch.after_last_words(2000 * kMs, false));
}

TEST(EndWatch, AGuestThatWillNeverSpeakAgainIsNotWaitedFor) {
  EndWatch watch = watch_for("panic");
  watch.hear(kPanicText, 0);
  EXPECT_FALSE(watch.after_last_words(kMs, false));
  EXPECT_TRUE(watch.after_last_words(kMs, true));
}

TEST(EndWatch, MarksEndAtOnce) {
  const EndWatch watch = watch_for("mark:done");
  EXPECT_FALSE(watch.at_mark("don"));
  EXPECT_TRUE(watch.at_mark("done"));
}

TEST(EndWatch, AGuestThatResetsItselfRightAfterEveryStartIsGivenUp) {
  EndWatch watch({}, 0);
  for (u64 i = 1; i < 20; ++i) EXPECT_FALSE(watch.after_resets(i, i * 1000)) << i;
  const auto end = watch.after_resets(20, 20'000);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->reason, event::EndReason::shutdown);
}

TEST(EndWatch, AGuestThatRunsBetweenItsResetsIsNot) {
  EndWatch watch({}, 5);
  EXPECT_FALSE(watch.after_resets(5, 0)) << "those before the session do not count";
  for (u64 i = 1; i < 100; ++i) EXPECT_FALSE(watch.after_resets(5 + i, i * 100'000)) << i;
}

}  // namespace
}  // namespace deja
