// conformance_fuzz: random user-mode instruction sequences, on the host CPU and in the engine, must end
// alike.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <string_view>

#include "fuzz/compare.h"
#include "fuzz/engine_adapter.h"
#include "fuzz/generator.h"
#include "fuzz/host_differences.h"
#include "fuzz/native.h"

namespace deja::fuzz {
namespace {

constexpr const char* kHelp =
    R"(usage: conformance_fuzz [--seed N] [--count M] [--seconds S] [--engine-mode MODE] [--minimize] [--self-check]
                        [--keep I,J…] [--list] [--statistics] [--digest]
  --seed N        seed (default: from the clock); case i has seed N + i * 2^32
  --count M       number of cases (default 10000)
  --seconds S     stop after so many seconds
  --engine-mode MODE  plain, single-step, checked, soft-flags, fixed-flags, chaos, or all (default)
  --minimize      shorten a sequence that differs before printing it
  --self-check    compare the host CPU with itself: finds what is not deterministic in the generator
  --keep I,J…     with --count 1: only these instructions of the sequence
  --list          print the sequences instead of running them
  --statistics    print how the runs ended
  --digest        run the cases in the engine alone and print a digest of all results: the same on every host
Exit status: 0 no difference, 1 differences, 2 wrong use.
)";

struct Options {
  u64 seed = 0, count = 10000, seconds = ~u64{0};
  std::string mode = "all";
  bool minimize = false, self_check = false, list = false, statistics = false, digest = false;
  std::vector<unsigned> keep;
};

// The seed of case i: disjoint for different seeds below 2^32.
u64 case_seed(const Options& o, u64 i) { return o.seed + (i << 32); }

using Runner = std::function<RunResult(const TestCase&)>;
// What the host is compared with.
struct Other {
  std::string name, option;
  Runner run;
  bool endless_counts = false;  // a run without an end, when the host's ended, is a difference
};

// What the others are compared with: the host, or where the host is not Intel's the engine in one mode for
// what the host does otherwise.
struct Reference {
  std::string name;
  Runner run;
  bool host;
};

std::string compare(const TestCase& test, const Reference& reference, const RunResult& expected,
                    const Other& other, const RunResult& actual) {
  const auto ended = [](const RunResult& r) { return r.end == End::sentinel || r.end == End::fault; };
  if (other.endless_counts && ended(expected) && !ended(actual))
    return fmt::format("  {} {}\n", other.name, actual.end == End::timeout ? "did not end" : "shut down");
  if (reference.host && checks_differ(test, expected, actual)) return {};
  return differences(test, expected, actual, reference.name.c_str(), other.name.c_str());
}

std::string join(const std::vector<unsigned>& xs) {
  std::string out;
  for (unsigned x : xs) out += fmt::format("{}{}", out.empty() ? "" : ",", x);
  return out;
}

// Drops instructions one at a time while the rest still differs.
std::vector<unsigned> minimize(const TestCase& test, std::vector<unsigned> kept, const Reference& reference,
                               const Other& other) {
  for (std::size_t i = kept.size(); i-- > 0;) {
    if (kept.size() == 1) break;
    std::vector<unsigned> fewer = kept;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    const TestCase shorter = keep_only(test, fewer);
    if (!compare(shorter, reference, reference.run(shorter), other, other.run(shorter)).empty()) kept = fewer;
  }
  return kept;
}

void report(const TestCase& test, const Reference& reference, const RunResult& expected, const Other& other,
            const RunResult& actual, const std::string& reproducer) {
  fmt::print("seed {}: {} and {} differ\n{}{}", test.seed, reference.name, other.name, disassembly(test),
             compare(test, reference, expected, other, actual));
  fmt::print("initial state\n{}{}\n{}{}\n{}reproduce: {}\n\n", describe(test.initial), reference.name,
             describe(expected.state), other.name, describe(actual.state), reproducer);
}

bool parse(int argc, char** argv, Options* o) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  o->seed = static_cast<u64>(now.tv_sec) * 1000003 + static_cast<u64>(now.tv_nsec);
  for (int i = 1; i < argc; i++) {
    const std::string_view a = argv[i];
    const auto number = [&](u64* to) {
      if (++i >= argc) return false;
      char* end;
      *to = std::strtoull(argv[i], &end, 0);
      return *end == 0 && *argv[i] != 0;
    };
    bool ok = true;
    if (a == "--seed")
      ok = number(&o->seed);
    else if (a == "--count")
      ok = number(&o->count);
    else if (a == "--seconds")
      ok = number(&o->seconds);
    else if (a == "--engine-mode" && ++i < argc)
      o->mode = argv[i];
    else if (a == "--minimize")
      o->minimize = true;
    else if (a == "--self-check")
      o->self_check = true;
    else if (a == "--list")
      o->list = true;
    else if (a == "--statistics")
      o->statistics = true;
    else if (a == "--digest")
      o->digest = true;
    else if (a == "--keep" && ++i < argc) {
      for (const char* p = argv[i]; *p;) {
        char* end;
        o->keep.push_back(static_cast<unsigned>(std::strtoul(p, &end, 10)));
        if (end == p) return false;
        p = *end == ',' ? end + 1 : end;
      }
    } else
      ok = false;
    if (!ok) return false;
  }
  return true;
}

std::vector<Other> others(const Options& o, const Runner& native) {
  std::vector<Other> all;
  for (unsigned i = 0; i < kEngineModes && !o.self_check; ++i) {
    const std::string name = name_of(EngineMode(i));
    if (o.mode != "all" && o.mode != name) continue;
    auto runner = std::make_shared<EngineRunner>(EngineMode(i), o.seed);
    all.push_back({"engine (" + name + ")", " --engine-mode " + name,
                   [runner](const TestCase& t) { return runner->run(t); }, true});
  }
  if (o.self_check) all.push_back({"native again", " --self-check", native});
  return all;
}

// A test, of whose generated instructions some may have been left out.
struct Part {
  TestCase test;
  std::vector<unsigned> kept;
  bool whole;
};

Part part_of(const TestCase& whole, const std::vector<unsigned>& kept) {
  const bool all = kept.size() == whole.insns.size();
  return {all ? whole : keep_only(whole, kept), kept, all};
}

class Campaign {
 public:
  Campaign(const Options& options, std::vector<Other> against)
      : options_(options), against_(std::move(against)) {}

  // Runs the others and reports the first that differs.
  void check(const Part& part, const Reference& reference, const RunResult& expected) {
    for (const Other& other : against_) {
      const RunResult actual = other.run(part.test);
      if (compare(part.test, reference, expected, other, actual).empty()) continue;
      ++differing_;
      const TestCase whole = generate(part.test.seed);
      Part shown = part;
      if (options_.minimize) {
        const auto kept = minimize(whole, part.kept, reference, other);
        if (kept.size() < part.kept.size()) shown = part_of(whole, kept);
      }
      std::string reproducer =
          fmt::format("conformance_fuzz --seed {} --count 1{}", whole.seed, other.option);
      if (shown.kept.size() < whole.insns.size()) reproducer += " --keep " + join(shown.kept);
      return report(shown.test, reference, reference.run(shown.test), other, other.run(shown.test),
                    reproducer);
    }
  }
  u64 differing() const { return differing_; }

 private:
  const Options& options_;
  std::vector<Other> against_;
  u64 differing_ = 0;
};

// What can be seen of a result, without what lies between its members.
u64 digest(const RunResult& r, u64 before) {
  const auto add = [&](const auto& member) { before = XXH3_64bits_withSeed(&member, sizeof member, before); };
  add(r.end), add(r.vector), add(r.error), add(r.cr2), add(r.state.gpr), add(r.state.rip),
      add(r.state.rflags);
  const FpuState& f = r.state.fpu;
  add(f.fcw), add(f.fsw), add(f.ftw), add(f.mxcsr), add(f.st), add(f.ymm), add(r.data);
  return before;
}

int print_digest(const Options& o) {
  EngineRunner engine(EngineMode::plain, o.seed, "x86-64-v3");
  u64 result = 0;
  for (u64 i = 0; i < o.count; ++i) result = digest(engine.run(generate(case_seed(o, i), false)), result);
  fmt::print("seed {}, {} cases: {:016x}\n", o.seed, o.count, result);
  return 0;
}

constexpr u64 kMostDifferences = 20;

int run(const Options& o) {
  NativeRunner runner;
  const Reference native{"native", [&](const TestCase& t) { return runner.run({&t, 1})[0]; }, true};
  const auto soft = std::make_shared<EngineRunner>(EngineMode::soft_flags, o.seed);
  const Reference engine{"reference engine", [soft](const TestCase& t) { return soft->run(t); }, false};
  const std::vector<Other> against = others(o, native.run);
  if (against.empty()) {
    fmt::print(stderr, "conformance_fuzz: there is no engine mode '{}'\n", o.mode);
    return 2;
  }
  fmt::print("seed {}, {} cases, native against", o.seed, o.count);
  for (const Other& other : against) fmt::print(" {}", other.name);
  fmt::print("\n");
  Campaign campaign(o, against);
  const auto begin = std::chrono::steady_clock::now();
  u64 ends[4] = {}, vectors[256] = {}, executed = 0, cases = 0, other_way = 0;
  while (cases < o.count &&
         std::chrono::steady_clock::now() - begin < std::chrono::duration<double>(o.seconds)) {
    std::vector<Part> parts;
    std::vector<TestCase> tests;
    for (; cases < o.count && tests.size() < NativeRunner::kBatch; ++cases) {
      const TestCase whole = generate(case_seed(o, cases));
      std::vector<unsigned> alike = done_alike(whole);
      if (!o.keep.empty())
        std::erase_if(alike, [&](unsigned k) { return std::ranges::find(o.keep, k) == o.keep.end(); });
      parts.push_back(part_of(whole, alike));
      tests.push_back(parts.back().test);
    }
    const std::vector<RunResult> expected = runner.run(tests);
    for (std::size_t i = 0; i < tests.size(); i++) {
      const RunResult& e = expected[i];
      ends[static_cast<int>(e.end)]++;
      executed += tests[i].insns.size();
      if (e.end == End::fault) vectors[e.vector]++;
      if (e.end != End::timeout && e.end != End::excluded) campaign.check(parts[i], native, e);
      // The whole, with what the host does in its own way.
      if (o.keep.empty() && !o.self_check && !parts[i].whole) {
        ++other_way;
        const TestCase whole = generate(tests[i].seed);
        std::vector<unsigned> all(whole.insns.size());
        std::iota(all.begin(), all.end(), 0u);
        const RunResult reference = engine.run(whole);
        if (reference.end == End::sentinel || reference.end == End::fault)
          campaign.check(part_of(whole, all), engine, reference);
      }
      if (campaign.differing() >= kMostDifferences) {
        fmt::print("{} differences: stopping\n", campaign.differing());
        return 1;
      }
    }
  }
  if (o.statistics) {
    fmt::print("{} instructions generated; ran to the end {}, fault {}, timeout {}, excluded {}\n", executed,
               ends[0], ends[1], ends[2], ends[3]);
    for (int v = 0; v < 256; v++)
      if (vectors[v]) fmt::print("  vector {}: {}\n", v, vectors[v]);
  }
  if (other_way)
    fmt::print(
        "{} cases have instructions that this host's CPU executes otherwise than Intel's: those compared "
        "without them, and whole with the engine in C++\n",
        other_way);
  fmt::print("{} cases, {} differences\n", cases, campaign.differing());
  return campaign.differing() ? 1 : 0;
}

}  // namespace
}  // namespace deja::fuzz

int main(int argc, char** argv) {
  deja::fuzz::Options options;
  if (argc > 1 && !std::strcmp(argv[1], "--help")) {
    fmt::print("{}", deja::fuzz::kHelp);
    return 0;
  }
  if (!deja::fuzz::parse(argc, argv, &options)) {
    fmt::print(stderr, "{}", deja::fuzz::kHelp);
    return 2;
  }
  if (options.list) {
    for (deja::u64 i = 0; i < options.count; i++) {
      auto t = deja::fuzz::generate(deja::fuzz::case_seed(options, i));
      if (!options.keep.empty()) t = deja::fuzz::keep_only(t, options.keep);
      fmt::print("seed {}\n{}", t.seed, deja::fuzz::disassembly(t));
    }
    return 0;
  }
  return options.digest ? deja::fuzz::print_digest(options) : deja::fuzz::run(options);
}
