#include "execute/host/host_cpu.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

TEST(HostCpu, AModelNeedsItsFeaturesAndNoOthers) {
  const CpuModel plain = *parse_cpu_model("x86-64-v3"), both = *parse_cpu_model("x86-64-v3,+sha-ni,+adx");
  const HostFeatures none = [](const CpuFeature&) { return false; };
  const HostFeatures all = [](const CpuFeature&) { return true; };
  const HostFeatures only_adx = [](const CpuFeature& f) { return f.name == "adx"; };
  EXPECT_TRUE(check_host_features(plain, none).ok());
  EXPECT_TRUE(check_host_features(both, all).ok());
  const Status refused = check_host_features(both, only_adx);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("sha_ni in /proc/cpuinfo"), std::string::npos)
      << refused.error().message;
  EXPECT_FALSE(check_host_features(both, none).ok());
}

}  // namespace
}  // namespace deja
