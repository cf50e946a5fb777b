#include "machine/behaviour.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deja {
namespace {

using testing::HasSubstr;

TEST(Behaviour, EveryVersionOfTheRangeIsTakenAndNoOther) {
  const BehaviourRange range{10, 12};
  for (u32 version : {10u, 11u, 12u}) EXPECT_TRUE(check_behaviour(version, range).ok()) << version;
  for (u32 version : {0u, 9u, 13u, ~0u}) EXPECT_FALSE(check_behaviour(version, range).ok()) << version;
}

TEST(Behaviour, ARefusalNamesTheVersionsAndTheReason) {
  const BehaviourRange range{10, 12};
  EXPECT_THAT(
      check_behaviour(13, range).error().message,
      HasSubstr("version 13 of the machine's behaviour, and this deja has 10 to 12: it was made by a newer"));
  EXPECT_THAT(check_behaviour(9, range).error().message, HasSubstr("since then, a REP string instruction"));
  EXPECT_THAT(check_behaviour(8, range).error().message, HasSubstr("has changed since then"));
  EXPECT_THAT(check_behaviour(9, {10, 10}).error().message, HasSubstr("this deja has 10:"));
}

// Recordings of version 10 were the first of which that was promised (docs/determinism.md, section 7).
TEST(Behaviour, Version10Stays) {
  EXPECT_TRUE(check_behaviour(10).ok());
  EXPECT_TRUE(check_behaviour(kMachineBehaviour).ok());
}

}  // namespace
}  // namespace deja
