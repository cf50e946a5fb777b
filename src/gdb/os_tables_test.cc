#include "gdb/os_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deja {
namespace {

using testing::ElementsAre;
using Row = std::vector<std::string>;

TEST(OsTables, AProcessIsItsFirstThread) {
  const std::vector<GuestTask> tasks{{5, 5, 1000, 1, "relay", 0x4ba4000}, {7, 5, 1000, {}, "worker", {}}};
  EXPECT_THAT(os_processes(tasks).rows, ElementsAre(Row{"5", "1000", "relay", "1", "0x4ba4000"}));
  EXPECT_THAT(os_threads(tasks).rows, ElementsAre(Row{"5", "relay", "5", "1"}, Row{"5", "worker", "7", "-"}));
}

TEST(OsTables, Modules) {
  GuestModule m;
  m.name = "ext4", m.base = 0x1000, m.size = 4096, m.users = 2, m.state = "Live";
  EXPECT_THAT(os_modules({m}).rows, ElementsAre(Row{"ext4", "4096", "2", "-", "Live", "0x1000"}));
  m.used_by = {"a", "b"};
  EXPECT_EQ(os_modules({m}).rows[0][3], "a,b");
}

TEST(OsTables, EachRowHasEveryColumn) {
  EXPECT_EQ(os_processes({GuestTask{}}).rows[0].size(), os_processes({}).columns.size());
  EXPECT_EQ(os_threads({GuestTask{}}).rows[0].size(), os_threads({}).columns.size());
  EXPECT_EQ(os_modules({GuestModule{}}).rows[0].size(), os_modules({}).columns.size());
}

}  // namespace
}  // namespace deja
