// random_seeks REC [SEEKS [SEED [CHAOS]]]: goes to many random moments of a recording, forth and back, and
// compares the machine's digest at each with that of one straight replay. CHAOS: seed of an engine that is
// disturbed (docs/determinism.md). Prints what it took; the exit status says whether all were equal.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <random>

#include "replay/apply.h"
#include "replay/position.h"
#include "timeline/navigator.h"

namespace {

using namespace deja;

u64 number(int argc, char** argv, int i, u64 fallback) {
  u64 n = fallback;
  if (i < argc) std::from_chars(argv[i], argv[i] + std::string_view(argv[i]).size(), n);
  return n;
}

double percentile(std::vector<double> sorted, double p) {
  return sorted.empty() ? 0
                        : sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(p * sorted.size()))];
}

void print_times(const char* what, std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  fmt::print("{}: {} seeks, median {:.2f} ms, 99th percentile {:.2f} ms, longest {:.2f} ms\n", what,
             ms.size(), percentile(ms, 0.5), percentile(ms, 0.99), ms.empty() ? 0 : ms.back());
}

// The state at a step as it reads in both replays.
struct Expected {
  MachineDigest digest;
  u64 instructions = 0;
};

int run(const std::filesystem::path& dir, u64 seeks, u64 seed, u64 chaos) {
  EngineOptions engine;
  if (chaos) engine.chaos = {true, chaos};
  auto opened = Navigator::open(dir, engine);
  if (!opened) return fmt::print(stderr, "{}\n", opened.error().message), 1;
  Navigator& nav = **opened;

  // Far moments, events' steps, and small steps from wherever the last one was.
  std::mt19937_64 random(seed);
  std::vector<Step> targets;
  std::vector<bool> small;
  while (targets.size() < seeks) {
    Step s = nav.first() + random() % (nav.last() - nav.first() + 1);
    bool near = false;
    if (random() % 16 == 0 && !nav.survey().digests.empty())
      s = nav.survey().digests[random() % nav.survey().digests.size()].step;
    if (!targets.empty() && random() % 2) {
      const Step reach = Step{1} << random() % 20;
      s = targets.back() - std::min(targets.back() - nav.first(), random() % reach + 1);
      near = true;
    }
    targets.push_back(s);
    small.push_back(near);
  }

  std::map<Step, Expected> straight;
  for (const Step s : targets) straight[s];
  auto replayer = Replayer::open(dir, {});
  if (!replayer) return fmt::print(stderr, "{}\n", replayer.error().message), 1;
  for (auto& [step, expected] : straight) {
    auto stop = (*replayer)->run_to(step);
    if (!stop || *stop != Replayer::Stop::reached)
      return fmt::print(stderr, "the straight replay does not reach step {}\n", step), 1;
    bring_to_rest((*replayer)->machine());
    expected = {(*replayer)->machine().digest(), (*replayer)->instructions()};
  }
  *replayer = nullptr;

  std::vector<double> far_ms, near_ms;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (Status status = nav.seek(targets[i]); !status)
      return fmt::print(stderr, "seed {}: {}\n", seed, status.error().message), 1;
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    (small[i] ? near_ms : far_ms).push_back(took.count());
    const Expected& expected = straight[targets[i]];
    // The digest may be known without a look at pages that are not loaded yet; now and then all are looked
    // at.
    const bool same_pages = i % 4 != 3 || nav.machine().ram().digest_from_scratch() == expected.digest.ram;
    if (nav.position() != targets[i] || nav.machine().digest() != expected.digest || !same_pages ||
        nav.replayer().instructions() != expected.instructions) {
      fmt::print(stderr,
                 "seed {}: seek {}, to step {} (from {}): another machine than the straight replay's\n", seed,
                 i, targets[i], i ? targets[i - 1] : 0);
      return 1;
    }
  }
  fmt::print("{} checkpoints, {} steps\n", nav.checkpoints().size(), format_count(nav.last()));
  print_times("far", far_ms);
  print_times("near", near_ms);
  fmt::print("{} seeks (seed {}, chaos {}): every digest equals the straight replay's\n", targets.size(),
             seed, chaos);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fputs("usage: random_seeks REC [SEEKS [SEED [CHAOS]]]\n", stderr), 2;
  try {
    return run(argv[1], number(argc, argv, 2, 1000), number(argc, argv, 3, 1), number(argc, argv, 4, 0));
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
