#include "linux/listings.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

TEST(Listings, Tasks) {
  GuestTask thread{7, 5, 1000, 1, "worker", 0x12345000}, kernel{2, 2, 0, {}, "kthreadd", {}};
  EXPECT_EQ(list_tasks({kernel, thread}),
            "     PID  PROCESS NAME             CR3\n"
            "       2        2 kthreadd         -\n"
            "       7        5 worker           0x12345000\n");
}

TEST(Listings, Modules) {
  GuestModule m;
  m.name = "ext4";
  m.base = 0xffffffffc0201000;
  m.size = 4096;
  m.users = -1;
  m.used_by = {"a", "b"};
  m.sections = {{".text", 0xffffffffc0201000}, {".bss", 0xffffffffc0202000}};
  EXPECT_EQ(list_modules({m}),
            "ADDRESS            NAME                         SIZE USERS USED BY\n"
            "0xffffffffc0201000 ext4                         4096    -1 a,b\n");
  EXPECT_EQ(list_sections({m}), "ext4 - .text=0xffffffffc0201000 .bss=0xffffffffc0202000\n");
  m.build_id = "ab12";
  m.sections.clear();
  EXPECT_EQ(list_sections({m}), "ext4 ab12\n");
}

TEST(Listings, Images) {
  EXPECT_EQ(list_images({{0x400000, true, 0x400000, "0daa"}, {0x7ffff7fc1000, false, 0, ""}}),
            "0x400000 0x400000 0daa\n0x7ffff7fc1000 0x0 -\n");
}

// Names are a guest's, whoever made the values.
TEST(Listings, NamesForgeNoLines) {
  GuestTask t;
  t.name = "a\n  b";
  EXPECT_EQ(list_tasks({t}).find("a\n"), std::string::npos);
  EXPECT_EQ(joined({"a\x1b", "b"}), "a\\x1b,b");
}

}  // namespace
}  // namespace deja
