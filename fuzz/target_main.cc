// The main function of every fuzz target.
#include <fcntl.h>
#include <fmt/format.h>
#include <sanitizer/common_interface_defs.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "fuzz/target.h"

// Running out of memory is an error that programs see, as it is in the product.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:detect_leaks=0:max_allocation_size_mb=2048:handle_abort=1";
}
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }

namespace deja::fuzz {
namespace {

constexpr const char* kHelp =
    R"(usage: TARGET_fuzz [--seed N] [--count M] [--seconds S]
  --seed N     seed (default: from the clock); case i has seed N + i * 2^32
  --count M    number of cases (default 2000; with --seconds, as many as it takes)
  --seconds S  go on for so many seconds
Exit status: 0 nothing found, 2 wrong use, else something was found, and the seed of the case is printed.
)";
constexpr unsigned kLongestCase = 30;  // seconds; one that takes longer hangs

u64 g_case_seed = 0;
const char* g_program = "";

// Called from signal handlers too.
void say_how_to_repeat() {
  char line[256];
  const auto end =
      fmt::format_to_n(line, sizeof line - 1, "reproduce: {} --seed {} --count 1\n", g_program, g_case_seed);
  (void)!::write(STDERR_FILENO, line, std::min(end.size, sizeof line - 1));
}

void on_alarm(int) {
  constexpr std::string_view text = "the case does not end\n";
  (void)!::write(STDERR_FILENO, text.data(), text.size());
  std::abort();
}

double seconds_now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Options {
  u64 seed = static_cast<u64>(std::time(nullptr)) % (u64{1} << 32);
  u64 count = 2000;
  double seconds = 1e9;
};

bool parse(int argc, char** argv, Options* o) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return false;
    const std::string_view name = argv[i];
    char* end = nullptr;
    if (name == "--seed")
      o->seed = std::strtoull(argv[i + 1], &end, 0);
    else if (name == "--count")
      o->count = std::strtoull(argv[i + 1], &end, 0);
    else if (name == "--seconds")
      o->seconds = std::strtod(argv[i + 1], &end), o->count = ~u64{0};
    if (!end || *end || end == argv[i + 1]) return false;
  }
  return true;
}

}  // namespace

u64 Random::edgy() {
  const u64 power = u64{1} << below(64);
  switch (below(6)) {
    case 0:
      return below(16);
    case 1:
      return power;
    case 2:
      return power - 1;
    case 3:
      return power + below(16);
    case 4:
      return ~u64{0} - below(16);
    default:
      return engine_() >> below(64);
  }
}

std::string Random::bytes(std::size_t size) {
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(engine_());
  return out;
}

void damage(Random& random, std::string& bytes) {
  for (u64 n = 1 + random.below(4); n > 0 && !bytes.empty(); --n) {
    const std::size_t at = random.below(bytes.size());
    const std::size_t some = std::min<std::size_t>(bytes.size() - at, 1 + random.below(32));
    switch (random.below(8)) {
      case 0:
        bytes.resize(at);
        break;
      case 1:
        bytes.insert(at, random.bytes(some));
        break;
      case 2:
        bytes.insert(at, bytes.substr(random.below(bytes.size()), some));
        break;
      case 3:
        bytes.erase(at, some);
        break;
      case 4: {
        const u64 value = random.edgy();
        std::memcpy(&bytes[at], &value, std::min<std::size_t>(bytes.size() - at, u64{1} << random.below(4)));
        break;
      }
      default:
        bytes[at] = static_cast<char>(bytes[at] ^ (1u << random.below(8)));
    }
  }
}

MemoryFile::MemoryFile(std::string_view content) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
  DEJA_CHECK(fd_ >= 0 &&
             ::write(fd_, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
}
MemoryFile::~MemoryFile() { ::close(fd_); }
int MemoryFile::duplicate() const { return ::fcntl(fd_, F_DUPFD_CLOEXEC, 0); }
std::string MemoryFile::path() const { return fmt::format("/proc/self/fd/{}", fd_); }

int fuzz_main(int argc, char** argv) {
  g_program = argv[0];
  Options o;
  if (!parse(argc, argv, &o)) {
    fmt::print(stderr, "{}", kHelp);
    return argc == 2 && !std::strcmp(argv[1], "--help") ? 0 : 2;
  }
  __sanitizer_set_death_callback(say_how_to_repeat);
  std::signal(SIGALRM, on_alarm);
  const double ends = seconds_now() + o.seconds;
  u64 cases = 0;
  for (; cases < o.count && seconds_now() < ends; ++cases) {
    g_case_seed = o.seed + (cases << 32);
    ::alarm(kLongestCase);
    Random random(g_case_seed);
    run_case(random);
  }
  ::alarm(0);
  fmt::print("seed {}: {} cases, nothing found\n", o.seed, cases);
  return 0;
}

}  // namespace deja::fuzz

int main(int argc, char** argv) { return deja::fuzz::fuzz_main(argc, argv); }
