#include "replay/end_condition.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

TEST(EndCondition, TakesTheWordsOfPositions) {
  auto quoted = parse_end_condition("serial:\"login: \"");
  ASSERT_TRUE(quoted.ok());
  EXPECT_EQ(quoted->text, "login: ");
  auto plain = parse_end_condition("serial:Kernel panic");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->text, "Kernel panic");
  auto mark = parse_end_condition("mark:test 17");
  ASSERT_TRUE(mark.ok());
  EXPECT_EQ(mark->kind, EndCondition::Kind::mark);
  EXPECT_EQ(mark->text, "test 17");
  EXPECT_TRUE(parse_end_condition("panic").ok());
  for (const char* wrong : {"", "serial:", "mark:", "serial:\"\"", "login"})
    EXPECT_FALSE(parse_end_condition(wrong).ok()) << wrong;
}

TEST(TextWatch, FindsTheTextHoweverItIsCut) {
  const std::string all = "ab aab aaabc";
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    for (std::size_t second = cut; second <= all.size(); ++second) {
      TextWatch watch("aabc");
      int seen = watch.seen_in(all.substr(0, cut));
      seen += watch.seen_in(all.substr(cut, second - cut));
      seen += watch.seen_in(all.substr(second));
      EXPECT_EQ(seen, 1) << cut << " " << second;
    }
  }
  TextWatch watch("x");
  EXPECT_TRUE(watch.seen_in("x"));
  EXPECT_FALSE(watch.seen_in("y"));
  EXPECT_TRUE(watch.seen_in("x"));
}

}  // namespace
}  // namespace deja
