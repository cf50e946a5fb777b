#include "inputs/keys.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

TEST(Keys, ArePressedInOrderAndReleasedInTheOpposite) {
  EXPECT_EQ(scan_codes("a").value(), "\x1c\xf0\x1c");
  EXPECT_EQ(scan_codes("shift-a").value(), "\x12\x1c\xf0\x1c\xf0\x12");
  EXPECT_EQ(scan_codes("ctrl_r-up").value(), "\xe0\x14\xe0\x75\xe0\xf0\x75\xe0\xf0\x14");
}

TEST(Keys, WhatIsNoKeyIsRefused) {
  for (const char* text : {"", "-", "a-", "ctrl-alt-", "A", "aa", "a-b-c-d-e"})
    EXPECT_FALSE(scan_codes(text).ok()) << text;
}

}  // namespace
}  // namespace deja
