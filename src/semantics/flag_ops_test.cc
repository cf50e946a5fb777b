#include "semantics/flag_ops.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

TEST(FlagOps, DivisionFaults) {
  const auto faults = [](ZydisMnemonic m, unsigned size, u64 low, u64 high, u64 by) {
    try {
      compute_flag_op(m, size, low, by, high, 0);
    } catch (const GuestFault& f) {
      return f.vector == kDE;
    }
    return false;
  };
  EXPECT_TRUE(faults(ZYDIS_MNEMONIC_DIV, 4, 1, 0, 0));
  EXPECT_TRUE(faults(ZYDIS_MNEMONIC_DIV, 4, 0, 5, 5));
  EXPECT_FALSE(faults(ZYDIS_MNEMONIC_DIV, 4, 0xffffffff, 4, 5));
  EXPECT_TRUE(faults(ZYDIS_MNEMONIC_IDIV, 8, 0, u64{1} << 63, ~u64{0}));
  EXPECT_TRUE(faults(ZYDIS_MNEMONIC_IDIV, 8, u64{1} << 63, ~u64{0}, ~u64{0}));
  EXPECT_FALSE(faults(ZYDIS_MNEMONIC_IDIV, 8, u64{1} << 63, ~u64{0}, 1));
  EXPECT_FALSE(faults(ZYDIS_MNEMONIC_IDIV, 1, 0x80, 0xff, 1));
}

}  // namespace
}  // namespace deja
