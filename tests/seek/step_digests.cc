// Compares engines at many single steps of a recording, each reached in one straight replay:
//
//   step_digests pick REC --random 500 --turns 500 --seed 7 >steps     steps worth a look, and why
//   step_digests at REC --steps steps >default                         the machine's digest at each
//   step_digests at REC --steps steps --engine max-insns=1 | diff default -
//   step_digests at REC --steps steps --whole >digests                 as `deja replay --digest` tells them
//
// `at` also sees that the machine stands where it was asked to stop. What an engine does a step late shows at
// the few steps around the end of a turn, a timer's moment or an input: `pick` runs from one to the next.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cli/options/command.h"
#include "cli/options/engine_options.h"
#include "eventlog/recording.h"
#include "replay/apply.h"
#include "replay/position.h"
#include "replay/replayer.h"
#include "replay/survey.h"

namespace {

using namespace deja;

// A picked edge is looked at up to so many steps before and behind it.
constexpr int kReach = 3;
// `pick` looks whether a timer was set anew: soon after one has come, and then ever more seldom.
constexpr Step kFirstLook = 200, kSeldomLook = 25'600;
// RAM is hashed at every so manyth step only: it disturbs the engine, whose writes are watched from then on.
constexpr u64 kRamEvery = 8;

Result<StepRange> steps_of(const std::string& dir) {
  DEJA_ASSIGN(Recording recording, Recording::open(dir));
  return StepRange{first_step(recording.manifest), survey_log(recording).last_step};
}

// So many of those that come by, each as likely as the others.
class Sample {
 public:
  Sample(u64 size, u64 seed) : size_(size), random_(seed) {}
  void offer(Step step) {
    if (!chosen_.empty() && chosen_.back() == step) return;
    ++offered_;
    if (chosen_.size() < size_) return chosen_.push_back(step);
    if (const u64 place = random_() % offered_; place < size_) chosen_[place] = step;
  }
  const std::vector<Step>& chosen() const { return chosen_; }

 private:
  u64 size_, offered_ = 0;
  std::mt19937_64 random_;
  std::vector<Step> chosen_;
};

struct PickOptions {
  std::string dir;
  u64 random = 500, turns = 500, timers = 500, inputs = 100, seed = 1;
};

struct Edges {
  Sample turns, timers, inputs;
};

// Goes from one place where a run must end to the next.
Status find_edges(const PickOptions& o, StepRange steps, Edges* edges) {
  DEJA_ASSIGN(const std::unique_ptr<Replayer> replayer, Replayer::open(o.dir, {}));
  Machine& m = replayer->machine();
  u64 inputs_seen = 0;
  Step stride = kSeldomLook;
  while (m.clock().steps < steps.last) {
    const Step turn = m.turn_end(), timer = m.clock().first_step_at(m.next_deadline());
    Step next = m.clock().steps + stride;
    for (const Step edge : {turn, timer, steps.last})
      if (edge > m.clock().steps) next = std::min(next, edge);
    DEJA_ASSIGN(const Replayer::Stop stop, replayer->run_to(next));
    if (stop != Replayer::Stop::reached) break;
    if (next == turn) edges->turns.offer(next);
    if (next == timer) edges->timers.offer(next);
    stride = next == timer ? kFirstLook : std::min(2 * stride, kSeldomLook);
    const auto& events = replayer->recent_events();
    if (replayer->counts().events > inputs_seen && !events.empty() && reaches_machine(events.back().body))
      edges->inputs.offer(events.back().step);
    inputs_seen = replayer->counts().events;
  }
  if (replayer->divergence()) return make_error("{}: {}", o.dir, replayer->divergence()->reason);
  return {};
}

Status pick(const PickOptions& o) {
  DEJA_ASSIGN(const StepRange steps, steps_of(o.dir));
  Edges edges{{o.turns, o.seed}, {o.timers, o.seed + 1}, {o.inputs, o.seed + 2}};
  if (o.turns + o.timers + o.inputs) DEJA_TRY(find_edges(o, steps, &edges));
  std::mt19937_64 random(o.seed);
  std::map<Step, std::string> picked;
  const auto add = [&](Step step, const std::string& why) {
    if (step >= steps.first && step <= steps.last) picked.try_emplace(step, why);
  };
  for (u64 i = 0; i < o.random; ++i) add(steps.first + random() % (steps.last - steps.first + 1), "random");
  add(steps.last, "end");
  // Mostly one step at an edge, to which the machine comes as if nobody had stopped it before; at some edges
  // all, in a row.
  const auto add_around = [&](const Sample& sample, const char* what) {
    for (const Step edge : sample.chosen()) {
      const bool all = random() % 8 == 0;
      const int only = static_cast<int>(random() % (2 * kReach + 1)) - kReach;
      for (int off = -kReach; off <= kReach; ++off)
        if (all || off == only) add(edge + static_cast<Step>(off), fmt::format("{}{:+}", what, off));
    }
  };
  add_around(edges.turns, "turn");
  add_around(edges.timers, "timer");
  add_around(edges.inputs, "input");
  for (const auto& [step, why] : picked) fmt::print("{} {}\n", step, why);
  return {};
}

Result<std::vector<Step>> read_steps(const std::string& path) {
  std::ifstream file(path);
  std::vector<Step> steps;
  for (std::string line; std::getline(file, line);) {
    DEJA_ASSIGN(const Step step, parse_position(line.substr(0, line.find(' ')), {0, kNeverStep}));
    if (!steps.empty() && step <= steps.back())
      return make_error("{}: step {} does not come after the one before", path, step);
    steps.push_back(step);
  }
  if (steps.empty()) return make_error("{}: there are no steps in it", path);
  return steps;
}

// `number`: how many steps were looked at before.
std::string digest_line(Machine& m, u64 instructions, u64 number) {
  const auto hash = [](const std::vector<u8>& bytes) { return XXH3_64bits(bytes.data(), bytes.size()); };
  std::string line = fmt::format("{} cpu {:016x} devices {:016x} instructions {}", m.clock().steps,
                                 hash(m.save_cpus()), hash(m.save_devices()), instructions);
  if (number % kRamEvery == 0) line += fmt::format(" ram {:016x}", m.digest().ram);
  return line;
}

// Disks and all of RAM are in it.
std::string whole_digest_line(Machine& m) {
  const MachineDigest d = m.digest();
  return fmt::format("{} cpu {:016x} ram {:016x} devices {:016x}", m.clock().steps, d.cpu, d.ram, d.devices);
}

Status digests_at(const std::string& dir, const std::string& path, const EngineOptions& engine, bool whole) {
  DEJA_ASSIGN(const std::vector<Step> steps, read_steps(path));
  DEJA_ASSIGN(const std::unique_ptr<Replayer> replayer, Replayer::open(dir, engine));
  Machine& m = replayer->machine();
  u64 looked = 0;
  for (const Step step : steps) {
    DEJA_ASSIGN(const Replayer::Stop stop, replayer->run_to(step));
    if (replayer->divergence())
      return make_error("{}: DIVERGED at step {}: {}", dir, replayer->divergence()->step,
                        replayer->divergence()->reason);
    if (stop != Replayer::Stop::reached) return make_error("{}: step {} is behind the end", dir, step);
    bring_to_rest(m);
    if (m.clock().steps != step)
      return make_error("{}: DIVERGED: asked to stop at step {}, it stopped at {}", dir, step,
                        m.clock().steps);
    fmt::print("{}\n", whole ? whole_digest_line(m) : digest_line(m, replayer->instructions(), looked++));
  }
  return {};
}

int finish(const Status& status) {
  if (status) return 0;
  std::fflush(stdout);
  return fmt::print(stderr, "{}\n", status.error().message), 1;
}

int run(int argc, char** argv) {
  Command app("Compares engines at single steps of a recording.", "step_digests");
  app.require_subcommand();
  PickOptions picking;
  Command* pick_verb = app.add_subcommand("pick", "Print steps that are worth a look");
  pick_verb->add_option("REC", picking.dir, "a recording")->required();
  pick_verb->add_option("--random", picking.random, "so many anywhere")->capture_default_str();
  pick_verb->add_option("--turns", picking.turns, "at the ends of so many turns")->capture_default_str();
  pick_verb->add_option("--timers", picking.timers, "at the moments of so many timers")
      ->capture_default_str();
  pick_verb->add_option("--inputs", picking.inputs, "at so many inputs")->capture_default_str();
  pick_verb->add_option("--seed", picking.seed, "what is chosen")->capture_default_str();
  std::string dir, steps;
  bool whole = false;
  EngineArguments engine;
  Command* at_verb = app.add_subcommand("at", "Print the machine's digest at given steps");
  at_verb->add_option("REC", dir, "a recording")->required();
  at_verb->add_option("--steps", steps, "a file: a step in each line, ascending")->required();
  at_verb->add_flag("--whole", whole, "the digests that recordings hold, instead of what comparing needs");
  engine.add_to(*at_verb);
  bool picked = false;
  pick_verb->final_callback([&] { picked = true; });
  if (const std::optional<int> status = app.parse({argv + 1, argv + argc})) return *status;
  if (picked) return finish(pick(picking));
  Result<EngineOptions> options = engine.apply();
  if (!options) return finish(options.error());
  return finish(digests_at(dir, steps, *options, whole));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
