#include "base/parse_number.h"

#include <gtest/gtest.h>

#include "base/types.h"

namespace deja {
namespace {

TEST(ParseNumber, TakesAllOfTheTextOrNothing) {
  EXPECT_EQ(parse_number<u32>("4294967295"), 4294967295u);
  EXPECT_EQ(parse_number<int>("-7"), -7);
  EXPECT_EQ(parse_number<u32>("4294967296"), std::nullopt);
  for (const char* text : {"", " 1", "1 ", "1x", "0x1", "-1", "+1", "1,000"})
    EXPECT_EQ(parse_number<u32>(text), std::nullopt) << text;
}

TEST(ParseNumber, BoundsAreIncluded) {
  EXPECT_EQ(parse_number_within<u32>("1", 1, 9), 1u);
  EXPECT_EQ(parse_number_within<u32>("9", 1, 9), 9u);
  EXPECT_EQ(parse_number_within<u32>("0", 1, 9), std::nullopt);
  EXPECT_EQ(parse_number_within<u32>("10", 1, 9), std::nullopt);
}

TEST(ParseNumber, HexadecimalDigitsMayHaveAPrefix) {
  EXPECT_EQ(parse_hex<u64>("0xffffffff82000000"), 0xffffffff82000000u);
  EXPECT_EQ(parse_hex<u64>("Ff"), 0xffu);
  for (const char* text : {"", "0x", "0x0x1", "g", "10000000000000000"})
    EXPECT_EQ(parse_hex<u64>(text), std::nullopt) << text;
}

}  // namespace
}  // namespace deja
