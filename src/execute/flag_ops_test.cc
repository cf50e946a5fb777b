#include "execute/flag_ops.h"

#include <gtest/gtest.h>

#include "translate/classify.h"

namespace deja {
namespace {

bool intel_host() { return __builtin_cpu_is("intel"); }

// The table of docs/undefined-flags.md, against the CPU that it describes.
TEST(FlagOps, CanonicalFlagsAreThoseOfCurrentIntelCores) {
  if (!intel_host()) GTEST_SKIP() << "the canonical flags are those of Intel's cores";
  u64 random = 1;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  for (const HostFlagOp& op : host_flag_ops())
    for (unsigned i = 0; i < 20000; ++i) {
      const u64 a = next() >> (next() & 63), b = i % 16 ? next() >> (next() & 63) : 0, c = next(),
                f = next() & flag::kStatus;
      ASSERT_TRUE(host_agrees(op, a, b, c, f))
          << op.text << std::hex << " a=" << a << " b=" << b << " c=" << c << " flags=" << f;
    }
  EXPECT_EQ(host_flag_differences().groups, 0u);
}

// On every host: a host that computes another flag is noticed, and its group named.
TEST(FlagOps, EveryGroupIsTried) {
  u32 tried = 0;
  for (const HostFlagOp& op : host_flag_ops()) tried |= 1u << static_cast<unsigned>(flag_group(op.mnemonic));
  EXPECT_EQ(tried, (1u << kFlagGroups) - 1);
}

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
