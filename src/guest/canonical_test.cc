#include "guest/canonical.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

constexpr u64 kLowerEnd = u64{1} << 47, kUpper = 0 - kLowerEnd;

TEST(Canonical, TheUpperBitsRepeatTheHighestOfTheAddress) {
  for (const u64 address : {u64{0}, kLowerEnd - 1, kUpper, ~u64{0}}) EXPECT_TRUE(is_canonical(address, 48));
  for (const u64 address : {kLowerEnd, kUpper - 1, u64{1} << 63}) EXPECT_FALSE(is_canonical(address, 48));
  // With five levels of page tables.
  for (const u64 address : {kLowerEnd, kUpper - 1}) EXPECT_TRUE(is_canonical(address, 57));
  EXPECT_FALSE(is_canonical(u64{1} << 56, 57));
}

TEST(Canonical, ARangeIsWhenItsFirstAndItsLastByteAre) {
  const CpuState s;
  EXPECT_TRUE(is_canonical(s, kLowerEnd - 8, 8));
  EXPECT_FALSE(is_canonical(s, kLowerEnd - 7, 8));
  EXPECT_FALSE(is_canonical(s, kUpper - 1, 8));
  EXPECT_TRUE(is_canonical(s, kUpper, 8));
  EXPECT_TRUE(is_canonical(s, ~u64{0} - 3, 8));  // goes on at 0
}

}  // namespace
}  // namespace deja
