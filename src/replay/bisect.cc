#include "replay/bisect.h"

#include <algorithm>

#include "base/check.h"
#include "replay/apply.h"
#include "replay/machine_report.h"
#include "replay/narrowing.h"
#include "replay/position.h"
#include "replay/replayer.h"
#include "replay/survey.h"

namespace deja {
namespace {

constexpr unsigned kDifferences = 8;  // shown, of each sort

class Pair : public ComparedPair {
 public:
  static Result<std::unique_ptr<Pair>> open(const BisectRequest& request) {
    auto pair = std::make_unique<Pair>();
    DEJA_ASSIGN(pair->reference, Replayer::open(request.dir, request.reference));
    DEJA_ASSIGN(pair->other, Replayer::open(request.dir, request.other));
    pair->reference->check_digests(false);
    pair->other->check_digests(false);
    return pair;
  }
  Status run_to(Step step) override {
    for (Replayer* r : {reference.get(), other.get()}) {
      DEJA_ASSIGN(const Replayer::Stop stop, r->run_to(step));
      (void)stop;  // a machine that cannot go on stays where it is
    }
    return {};
  }
  bool same() override {
    if (reference->step() != other->step()) return false;
    for (Replayer* r : {reference.get(), other.get()}) bring_to_rest(r->machine());
    return reference->machine().digest() == other->machine().digest();
  }
  bool stuck() const override { return reference->divergence() && other->divergence(); }

  std::unique_ptr<Replayer> reference, other;
};

std::string narrowing_text(const Narrowing& n) {
  switch (n.found) {
    case Narrowing::Found::at_start:
    case Narrowing::Found::nothing:
      return fmt::format("Both engines agree up to step {}.\n", format_count(n.good));
    case Narrowing::Found::only_if_stopped:
      return fmt::format(
          "The engines differ after step {} when they are stopped on the way there, and not otherwise: what "
          "they "
          "do depends on where their runs end.\n",
          format_count(n.bad));
    case Narrowing::Found::unstopped_step:
      return fmt::format(
          "The machines agree after step {} and differ after step {}, unless they are stopped shortly "
          "before: what "
          "the engine does depends on where its runs end.\n",
          format_count(n.good), format_count(n.bad));
    case Narrowing::Found::step:
      return fmt::format("The machines agree after step {} and differ after step {}.\n", format_count(n.good),
                         format_count(n.bad));
  }
  DEJA_UNREACHABLE();
}

// What the reference is about to do at `step`, by a machine of its own: looking at the guest's page tables
// may set accessed bits.
Result<std::string> describe_moment(const BisectRequest& request, Step step) {
  DEJA_ASSIGN(const std::unique_ptr<Replayer> before, Replayer::open(request.dir, request.reference));
  before->check_digests(false);
  DEJA_ASSIGN(const Replayer::Stop stop, before->run_to(step));
  (void)stop;
  std::string text = "\nBefore the step:\n" + describe_cpus(before->machine()) + "Last events:\n";
  for (const LogEvent& e : before->recent_events())
    text += fmt::format("  {:>14} {}\n", e.step, describe(e.body));
  return text;
}

}  // namespace

Result<BisectReport> run_bisect(const BisectRequest& request) {
  const auto say = [&](const std::string& line) {
    if (request.progress) request.progress(line);
  };
  DEJA_ASSIGN(Recording recording, Recording::open(request.dir));
  const LogSurvey survey = survey_log(recording);
  const Step from = std::max(request.from, first_step(recording.manifest));
  const Step to = std::min(request.to, survey.last_step);
  if (to <= from)
    return make_error("{}: there is nothing between step {} and step {}", request.dir.string(), from, to);
  const auto open = [&]() -> Result<std::unique_ptr<ComparedPair>> {
    DEJA_ASSIGN(std::unique_ptr<Pair> pair, Pair::open(request));
    return std::unique_ptr<ComparedPair>(std::move(pair));
  };
  DEJA_ASSIGN(const Narrowing found, narrow(open, from, to, say));
  if (found.found == Narrowing::Found::at_start)
    return make_error(
        "{}: the two engines differ already at step {}, where the search was to start; search from the start",
        request.dir.string(), format_count(from));
  BisectReport report{found.found != Narrowing::Found::nothing, found.bad, narrowing_text(found)};
  if (found.found == Narrowing::Found::nothing || found.found == Narrowing::Found::only_if_stopped)
    return report;
  DEJA_ASSIGN(const std::string moment, describe_moment(request, found.good));
  report.text += moment;
  DEJA_ASSIGN(const std::unique_ptr<Pair> pair, Pair::open(request));
  DEJA_TRY(pair->run_to(found.bad));
  report.text += "\nAfter the step, reference first:\n";
  for (const Replayer* r : {pair->reference.get(), pair->other.get()})
    if (r->divergence())
      report.text += fmt::format("  at step {}: {}\n", format_count(r->step()), r->divergence()->reason);
  report.text += describe_differences(pair->reference->machine(), pair->other->machine(), kDifferences);
  return report;
}

}  // namespace deja
