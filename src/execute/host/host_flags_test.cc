#include "execute/host/host_flags.h"

#include <gtest/gtest.h>

#include "decode/flag_groups.h"

namespace deja {
namespace {

bool intel_host() { return __builtin_cpu_is("intel"); }

// The table of docs/undefined-flags.md, against the CPU that it describes.
TEST(HostFlags, CanonicalFlagsAreThoseOfCurrentIntelCores) {
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
TEST(HostFlags, EveryGroupIsTried) {
  u32 tried = 0;
  for (const HostFlagOp& op : host_flag_ops()) tried |= 1u << static_cast<unsigned>(flag_group(op.mnemonic));
  EXPECT_EQ(tried, (1u << kFlagGroups) - 1);
}

}  // namespace
}  // namespace deja
