#include "execute/cache/perf_map.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

TEST(PerfMapTest, NamesEachBlockByItsPhysicalAddress) {
  CodeStore store;
  Block b;
  b.pc = Gpa(0x1a2b3c0);
  b.mode = BlockMode{BlockMode::kUser};
  b.far_entry = 0x400, b.end = 0x460, b.cold_begin = 0x8000, b.cold_end = 0x8010;
  const BlockId first = store.blocks.add(0, b);
  store.special_copies.add(0, {0x8020, 0x8060, first, 0});
  b.pc = Gpa(0x5000);
  b.mode = BlockMode{0};
  b.far_entry = 0x470, b.end = 0x480, b.cold_begin = b.cold_end = 0x8010;
  store.blocks.add(1, b);
  EXPECT_EQ(perf_map_text(store, 0x7f0000000000),
            "7f0000000000 400 thunks\n"
            "7f0000000400 60 user:1a2b3c0\n"
            "7f0000008000 10 user:1a2b3c0.cold\n"
            "7f0000008020 40 user:1a2b3c0.copy\n"
            "7f0000000470 10 kernel:5000\n");
}

}  // namespace
}  // namespace deja
