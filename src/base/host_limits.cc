#include "base/host_limits.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

#include "base/types.h"

namespace deja {
namespace {

// More is not asked for: select(2) in a library would not stand it.
constexpr rlim_t kDescriptors = 1024;
constexpr rlim_t kStack = 8_MiB, kLeastStack = 256_KiB;

// Nothing: there is no limit.
std::optional<u64> limit_of(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

std::string amount(u64 bytes) {
  return bytes < 1_MiB ? fmt::format("{} KiB", bytes >> 10)
                       : fmt::format("{:.1f} MiB", static_cast<double>(bytes) / static_cast<double>(1_MiB));
}

// Where less than `wanted` is allowed, takes what may be had; returns what is allowed then.
rlim_t raise_limit(__rlimit_resource resource, rlim_t wanted) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur >= wanted) return wanted;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  return ::setrlimit(resource, &limit) == 0 ? limit.rlim_cur : before;
}

std::string memory_limits() {
  std::string text;
  const auto add = [&](__rlimit_resource resource, const char* what, const char* option) {
    if (const auto bytes = limit_of(resource))
      text += fmt::format("{}{} is limited to {}: raise it with `ulimit {}`", text.empty() ? "" : ", ", what,
                          amount(*bytes), option);
  };
  add(RLIMIT_AS, "address space", "-v");
  add(RLIMIT_DATA, "private memory", "-d");
  return text;
}

std::string limit_behind(int error) {
  switch (error) {
    case ENOMEM:
      return memory_limits();
    case EMFILE:
      if (const auto files = limit_of(RLIMIT_NOFILE))
        return fmt::format("open files are limited to {}: raise it with `ulimit -n`", *files);
      return {};
    case EFBIG:
      if (const auto bytes = limit_of(RLIMIT_FSIZE))
        return fmt::format("files are limited to {}: raise it with `ulimit -f`", amount(*bytes));
      return {};
    case EAGAIN:
      if (const auto processes = limit_of(RLIMIT_NPROC))
        return fmt::format("processes and threads are limited to {}: raise it with `ulimit -u`", *processes);
      return {};
    default:
      return {};
  }
}

}  // namespace

Status use_host_limits() {
  std::signal(SIGXFSZ, SIG_IGN);
  (void)raise_limit(RLIMIT_NOFILE, kDescriptors);
  const rlim_t stack = raise_limit(RLIMIT_STACK, kStack);
  if (stack >= kLeastStack) return {};
  return make_error("the stack is limited to {}, and {} are needed: raise it with `ulimit -s`", amount(stack),
                    amount(kLeastStack));
}

Status open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest number that is free is this one. Programs that this one starts have it too.
    if (::open("/dev/null", O_RDWR) != fd)
      return make_error("cannot open /dev/null as descriptor {}: {}", fd, host_error(errno));
  }
  return {};
}

std::string host_error(int error) {
  const std::string limit = limit_behind(error);
  return limit.empty() ? std::strerror(error) : fmt::format("{} ({})", std::strerror(error), limit);
}

std::string out_of_memory(const std::string& what) { return fmt::format("{}: {}", what, host_error(ENOMEM)); }

}  // namespace deja
