#include "replay/bisect.h"

#include <algorithm>

#include "replay/apply.h"
#include "replay/machine_report.h"
#include "replay/position.h"
#include "replay/replayer.h"
#include "replay/survey.h"

namespace deja {
namespace {

// Each round runs both machines from the beginning, so few rounds with many comparisons are best.
constexpr Step kParts = 64;
constexpr unsigned kDifferences = 8;  // shown, of each sort

struct Pair {
  std::unique_ptr<Replayer> reference, other;

  static Result<Pair> open(const BisectRequest& request) {
    Pair pair;
    DEJA_ASSIGN(pair.reference, Replayer::open(request.dir, request.reference));
    DEJA_ASSIGN(pair.other, Replayer::open(request.dir, request.other));
    pair.reference->check_digests(false);
    pair.other->check_digests(false);
    return pair;
  }
  Status run_to(Step step) {
    for (Replayer* r : {reference.get(), other.get()}) {
      DEJA_ASSIGN(const Replayer::Stop stop, r->run_to(step));
      (void)stop;  // a machine that cannot go on stays where it is
    }
    return {};
  }
  bool same() {
    if (reference->step() != other->step()) return false;
    for (Replayer* r : {reference.get(), other.get()}) bring_to_rest(r->machine());
    return reference->machine().digest() == other->machine().digest();
  }
  // Neither can go on as recorded.
  bool stuck() const { return reference->divergence() && other->divergence(); }
};

}  // namespace

Result<BisectReport> run_bisect(const BisectRequest& request) {
  const auto say = [&](const std::string& line) {
    if (request.progress) request.progress(line);
  };
  DEJA_ASSIGN(Recording recording, Recording::open(request.dir));
  const LogSurvey survey = survey_log(recording);
  Step good = std::max(request.from, first_step(recording.manifest)),
       bad = std::min(request.to, survey.last_step);
  const Step begin = good;
  if (bad <= good)
    return make_error("{}: there is nothing between step {} and step {}", request.dir.string(), good, bad);
  bool differ = false;
  while (bad - good > 1 || !differ) {
    say(fmt::format("comparing steps {} to {}", format_count(good), format_count(bad)));
    const Step interval = std::max<Step>(1, (bad - good) / kParts);
    DEJA_ASSIGN(Pair pair, Pair::open(request));
    DEJA_TRY(pair.run_to(good));
    if (good == begin && !differ && !pair.same())
      return make_error(
          "{}: the two engines differ already at step {}, where the search was to start; search from the "
          "start",
          request.dir.string(), format_count(good));
    bool found = false;
    while (!found && good < bad) {
      const Step next = std::min(bad, good + interval);
      DEJA_TRY(pair.run_to(next));
      if (!pair.same()) {
        bad = next;
        found = differ = true;
      } else {
        good = next;
        if (pair.stuck()) break;
      }
    }
    // What differed once differs again, or the difference is not a function of the options: an engine bug of
    // another sort.
    if (!found) {
      BisectReport report;
      report.step = good;
      report.text = differ ? "A difference seen before did not show again: the engine depends on something "
                             "besides its options.\n"
                           : fmt::format("Both engines agree up to step {}.\n", format_count(good));
      return report;
    }
  }

  BisectReport report{true, bad, {}};
  report.text = fmt::format("The machines agree after step {} and differ after step {}.\n",
                            format_count(good), format_count(bad));
  {
    // A machine of its own, since looking at the guest's page tables may set accessed bits.
    DEJA_ASSIGN(const std::unique_ptr<Replayer> before, Replayer::open(request.dir, request.reference));
    before->check_digests(false);
    DEJA_ASSIGN(const Replayer::Stop stop, before->run_to(good));
    (void)stop;
    report.text += "\nBefore the step:\n" + describe_cpus(before->machine());
    report.text += "Last events:\n";
    for (const LogEvent& e : before->recent_events())
      report.text += fmt::format("  {:>14} {}\n", e.step, describe(e.body));
  }
  DEJA_ASSIGN(Pair pair, Pair::open(request));
  DEJA_TRY(pair.run_to(bad));
  report.text += "\nAfter the step, reference first:\n";
  for (const Replayer* r : {pair.reference.get(), pair.other.get()})
    if (r->divergence())
      report.text += fmt::format("  at step {}: {}\n", format_count(r->step()), r->divergence()->reason);
  report.text += describe_differences(pair.reference->machine(), pair.other->machine(), kDifferences);
  return report;
}

}  // namespace deja
