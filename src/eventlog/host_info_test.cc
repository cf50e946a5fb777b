#include "eventlog/host_info.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

namespace deja {
namespace {

// What the kernel says of the first CPU, by name.
std::map<std::string, std::string> cpuinfo() {
  std::map<std::string, std::string> fields;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const auto colon = line.find(": ");
    if (colon != std::string::npos)
      fields[line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1)] = line.substr(colon + 2);
  }
  return fields;
}

TEST(HostInfo, TellsTheCpuAsTheKernelDoes) {
  const auto fields = cpuinfo();
  EXPECT_EQ(this_host().cpu, fields.at("model name") + "; " + fields.at("vendor_id") + " family " +
                                 fields.at("cpu family") + " model " + fields.at("model") + " stepping " +
                                 fields.at("stepping"));
}

}  // namespace
}  // namespace deja
