// conformance_fuzz: random user-mode instruction sequences, on the host CPU and in the engine, must end
// alike.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>

#include "fuzz/compare.h"
#include "fuzz/engine_adapter.h"
#include "fuzz/generator.h"
#include "fuzz/native.h"

namespace deja::fuzz {
namespace {

constexpr const char* kHelp =
    R"(usage: conformance_fuzz [--seed N] [--count M] [--seconds S] [--engine-mode MODE] [--minimize] [--self-check]
                        [--keep I,J…] [--list] [--statistics]
  --seed N        seed (default: from the clock); case i has seed N + i * 2^32
  --count M       number of cases (default 10000)
  --seconds S     stop after so many seconds
  --engine-mode MODE  plain, single-step, checked, soft-flags, chaos, or all (default): each case in every mode
  --minimize      shorten a sequence that differs before printing it
  --self-check    compare the host CPU with itself: finds what is not deterministic in the generator
  --keep I,J…     with --count 1: only these instructions of the sequence
  --list          print the sequences instead of running them
  --statistics    print how the runs ended
Exit status: 0 no difference, 1 differences, 2 wrong use.
)";

struct Options {
  u64 seed = 0, count = 10000, seconds = ~u64{0};
  std::string mode = "all";
  bool minimize = false, self_check = false, list = false, statistics = false;
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

std::string compare(const TestCase& test, const RunResult& native, const Other& other,
                    const RunResult& actual) {
  const auto ended = [](const RunResult& r) { return r.end == End::sentinel || r.end == End::fault; };
  if (other.endless_counts && ended(native) && !ended(actual))
    return fmt::format("  {} {}\n", other.name, actual.end == End::timeout ? "did not end" : "shut down");
  return differences(test, native, actual, "native", other.name.c_str());
}

std::string join(const std::vector<unsigned>& xs) {
  std::string out;
  for (unsigned x : xs) out += fmt::format("{}{}", out.empty() ? "" : ",", x);
  return out;
}

// Drops instructions one at a time while the rest still differs.
std::vector<unsigned> minimize(const TestCase& test, std::vector<unsigned> kept, const Runner& native,
                               const Other& other) {
  for (std::size_t i = kept.size(); i-- > 0;) {
    if (kept.size() == 1) break;
    std::vector<unsigned> fewer = kept;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    const TestCase shorter = keep_only(test, fewer);
    if (!compare(shorter, native(shorter), other, other.run(shorter)).empty()) kept = fewer;
  }
  return kept;
}

void report(const TestCase& test, const RunResult& native, const Other& other, const RunResult& actual,
            const std::string& reproducer) {
  fmt::print("seed {}: native and {} differ\n{}{}", test.seed, other.name, disassembly(test),
             compare(test, native, other, actual));
  fmt::print("initial state\n{}native\n{}{}\n{}reproduce: {}\n\n", describe(test.initial),
             describe(native.state), other.name, describe(actual.state), reproducer);
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

int run(const Options& o) {
  NativeRunner runner;
  const Runner native = [&](const TestCase& t) { return runner.run({&t, 1})[0]; };
  const std::vector<Other> against = others(o, native);
  if (against.empty()) {
    fmt::print(stderr, "conformance_fuzz: there is no engine mode '{}'\n", o.mode);
    return 2;
  }
  fmt::print("seed {}, {} cases, native against", o.seed, o.count);
  for (const Other& other : against) fmt::print(" {}", other.name);
  fmt::print("\n");
  const auto begin = std::chrono::steady_clock::now();
  u64 differing = 0, ends[4] = {}, vectors[256] = {}, executed = 0, cases = 0;
  while (cases < o.count &&
         std::chrono::steady_clock::now() - begin < std::chrono::duration<double>(o.seconds)) {
    std::vector<TestCase> tests;
    for (; cases < o.count && tests.size() < NativeRunner::kBatch; ++cases) {
      TestCase t = generate(case_seed(o, cases));
      tests.push_back(o.keep.empty() ? std::move(t) : keep_only(t, o.keep));
    }
    const std::vector<RunResult> expected = runner.run(tests);
    for (std::size_t i = 0; i < tests.size(); i++) {
      const RunResult& e = expected[i];
      ends[static_cast<int>(e.end)]++;
      executed += tests[i].insns.size();
      if (e.end == End::fault) vectors[e.vector]++;
      if (e.end == End::timeout || e.end == End::excluded) continue;
      for (const Other& other : against) {
        const RunResult actual = other.run(tests[i]);
        if (compare(tests[i], e, other, actual).empty()) continue;
        differing++;
        std::vector<unsigned> kept = o.keep;
        if (kept.empty())
          for (unsigned k = 0; k < tests[i].insns.size(); k++) kept.push_back(k);
        const std::size_t all = kept.size();
        TestCase shown = tests[i];
        if (o.minimize) {
          kept = minimize(generate(tests[i].seed), kept, native, other);
          if (kept.size() < all) shown = keep_only(generate(tests[i].seed), kept);
        }
        std::string reproducer =
            fmt::format("conformance_fuzz --seed {} --count 1{}", shown.seed, other.option);
        if (kept.size() < all || !o.keep.empty()) reproducer += " --keep " + join(kept);
        if (kept.size() < all)
          report(shown, native(shown), other, other.run(shown), reproducer);
        else
          report(shown, e, other, actual, reproducer);
        if (differing == 20) {
          fmt::print("20 differences: stopping\n");
          return 1;
        }
        break;
      }
    }
  }
  if (o.statistics) {
    fmt::print("{} instructions generated; ran to the end {}, fault {}, timeout {}, excluded {}\n", executed,
               ends[0], ends[1], ends[2], ends[3]);
    for (int v = 0; v < 256; v++)
      if (vectors[v]) fmt::print("  vector {}: {}\n", v, vectors[v]);
  }
  fmt::print("{} cases, {} differences\n", cases, differing);
  return differing ? 1 : 0;
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
  return deja::fuzz::run(options);
}
