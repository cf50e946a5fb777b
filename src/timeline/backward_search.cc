#include "timeline/backward_search.h"

#include <algorithm>
#include <utility>

#include "replay/position.h"
#include "timeline/observation_codec.h"
#include "timeline/work_queue.h"

namespace deja {
namespace {

constexpr Step kSlice = 4'000'000;          // between two looks at `interrupted`
constexpr Step kWorthWorkers = 20'000'000;  // steps to search at a stretch

// Damaged ones count: going there begins at one before.
Step checkpoint_before(const Navigator& nav, Step step) {
  const std::size_t n = nav.checkpoints().count_up_to(step);
  return n ? std::max(nav.first(), nav.checkpoints().point(n - 1).step) : nav.first();
}

// What is looked for, wherever that is done.
struct Search {
  const ObservationSpec& spec;
  const HitTest& accept;
  const Interrupted& interrupted;
};

// One segment, [from, to): the last accepted place in it goes into `result`.
Status search_segment(const WorkPlace& place, const Search& search, Step from, Step to,
                      BackwardResult* result) {
  Navigator& nav = place.nav;
  Observation& observation = nav.machine().engine().observation();
  nav.machine().engine().observe({});
  DEJA_TRY(nav.seek(from));
  nav.machine().engine().observe(search.spec);
  for (bool there = false; !there;) {
    if (search.interrupted && search.interrupted()) {
      result->outcome = BackwardResult::Outcome::interrupted;
      return {};
    }
    const Step next = std::min(to, nav.position() + kSlice);
    // Snapshots are for whoever comes back to where something was found.
    DEJA_ASSIGN(const Replayer::Stop stop, place.asks ? nav.run_to(next) : nav.replayer().run_to(next));
    if (stop == Replayer::Stop::diverged || stop == Replayer::Stop::log_end)
      return make_error("the replay does not get from step {} to step {} as recorded: deja verify {}",
                        format_count(from), format_count(to), nav.dir().string());
    there = stop == Replayer::Stop::reached && nav.position() >= to;
    for (Hit& hit : observation.take()) {
      const Step at = place_of(hit);
      if (at >= to || at < from || !search.accept(nav.machine(), hit)) continue;
      if (at != result->at) result->hits.clear();
      result->outcome = BackwardResult::Outcome::found;
      result->at = at;
      result->hits.push_back(std::move(hit));
    }
    observation.skip_at(nav.position());
  }
  return {};
}

// All of [floor, before), backward. `at_length`, unless empty, is called before long stretches.
Result<BackwardResult> search_range(const WorkPlace& place, const Search& search, Step floor, Step before,
                                    const std::function<void()>& at_length = {}) {
  Navigator& nav = place.nav;
  BackwardResult result;
  for (Step to = before; to > floor && result.outcome == BackwardResult::Outcome::nothing;) {
    result.searched_to = to;
    const Step from = std::max(floor, nav.segment_start(to - 1));
    DEJA_CHECK(from < to, "a segment of steps {} to {}", from, to);
    if (!is_ruled_out(nav, search.spec, from, to)) {
      if (at_length && to - from > kWorthWorkers) at_length();
      DEJA_TRY(search_segment(place, search, from, to, &result));
    }
    to = from;
  }
  if (result.outcome == BackwardResult::Outcome::nothing) result.searched_to = floor;
  nav.machine().engine().observe({});
  return result;
}

// --- the same as work

constexpr u32 kVersion = 1;  // of both

struct Question {
  ObservationSpec spec;
  HitFilter accept;
};
template <class A>
void serialize(A& a, Question& q) {
  serialize(a, q.spec);
  serialize(a, q.accept);
}

// In one interval, or in several that are neighbours.
struct Find {
  bool found = false;
  Step at = 0;
  std::vector<Hit> hits;
};
template <class A>
void serialize(A& a, Find& f) {
  a.field(f.found);
  a.field(f.at);
  list_field(a, f.hits);
}

Result<Find> find_from(const ValueBytes& bytes) {
  return from_bytes<Find>(kVersion, "the result of a search", bytes);
}

Result<std::optional<ValueBytes>> run(const WorkPlace& place, const Work& work,
                                      const Interrupted& interrupted) {
  DEJA_ASSIGN(const Question question, from_bytes<Question>(kVersion, "a search", work.parameters));
  DEJA_ASSIGN(const HitTest accept, make_test(question.accept));
  DEJA_ASSIGN(BackwardResult result, search_range(place, {question.spec, accept, interrupted},
                                                  work.interval.from, work.interval.to));
  if (result.outcome == BackwardResult::Outcome::interrupted) return std::optional<ValueBytes>();
  const bool found = result.outcome == BackwardResult::Outcome::found;
  return std::optional(to_bytes(kVersion, Find{found, result.at, std::move(result.hits)}));
}

bool has_found(const ValueBytes& bytes) {
  auto find = find_from(bytes);
  return !find || find->found;  // merge() will say what is wrong with it
}

Status keep_nearest(ValueBytes* result, const ValueBytes& next) {
  DEJA_ASSIGN(const Find nearer, find_from(*result));
  if (!nearer.found) *result = next;
  return {};
}

const WorkKind kSearchBackward{"search-backward", {run, keep_nearest, has_found}};

// Those of [floor, before) between checkpoints, the nearest first; `before` is one. Intervals that are ruled
// out are left out.
std::vector<Interval> intervals_of(const Navigator& nav, const ObservationSpec& spec, Step floor,
                                   Step before) {
  std::vector<Interval> intervals;
  for (Step to = before; to > floor;) {
    const Step from = std::max(floor, checkpoint_before(nav, to - 1));
    if (!is_ruled_out(nav, spec, from, to)) intervals.push_back({from, to});
    to = from;
  }
  return intervals;
}

Result<BackwardResult> finish(Navigator& nav, const Interrupted& interrupted, WorkQueue& queue, Step floor) {
  DEJA_ASSIGN(const WorkQueue::Answer answer, queue.finish(runner({nav, true}), interrupted));
  nav.machine().engine().observe({});
  BackwardResult result;
  result.searched_to = floor;
  if (answer.interrupted) {
    result.outcome = BackwardResult::Outcome::interrupted;
    result.searched_to = queue.intervals()[answer.done].to;
  } else if (answer.done) {
    DEJA_ASSIGN(Find find, find_from(answer.merged));
    if (!find.found) return result;
    result.outcome = BackwardResult::Outcome::found;
    result.at = find.at;
    result.hits = std::move(find.hits);
    result.searched_to = queue.intervals()[answer.done - 1].to;
  }
  return result;
}

}  // namespace

Step place_of(const Hit& hit) {
  const bool stops_before = hit.kind == Hit::Kind::breakpoint || hit.kind == Hit::Kind::turn;
  return stops_before || hit.step == 0 ? hit.step : hit.step - 1;
}

bool is_ruled_out(const Navigator& nav, const ObservationSpec& spec, Step from, Step to) {
  if (!spec.breakpoints.empty() || spec.delivery_at || spec.turn_of) return false;
  return std::none_of(spec.watchpoints.begin(), spec.watchpoints.end(), [&](const Watchpoint& w) {
    if (!w.physical || w.kinds != Watchpoint::kWrite) return true;
    for (u64 frame = Gpa(w.address).frame(); frame <= Gpa(w.address + w.size - 1).frame(); ++frame)
      if (nav.may_have_been_written(static_cast<u32>(frame), from, to)) return true;
    return false;
  });
}

Result<BackwardResult> search_backward(Navigator& nav, const BackwardSearch& search) {
  DEJA_ASSIGN(const HitTest accept, make_test(search.accept));
  const WorkPlace here{nav, true};
  const Search near_search{search.spec, accept, search.interrupted};
  const Step floor = std::max(search.floor, nav.first());
  if (!search.workers || search.workers->count() == 0 || search.before <= floor)
    return search_range(here, near_search, floor, search.before);
  // Down to the nearest checkpoint there are snapshots, in which this thread alone may soon find it.
  const Step near = std::max(floor, checkpoint_before(nav, search.before - 1));
  std::shared_ptr<WorkQueue> queue;
  const auto share_out = [&] {
    if (queue) return;
    queue =
        std::make_shared<WorkQueue>(kSearchBackward, to_bytes(kVersion, Question{search.spec, search.accept}),
                                    intervals_of(nav, search.spec, floor, near));
    if (!queue->intervals().empty()) share(queue, *search.workers);
  };
  Result<BackwardResult> result = search_range(here, near_search, near, search.before, share_out);
  if (result && result->outcome == BackwardResult::Outcome::nothing) {
    share_out();
    return finish(nav, search.interrupted, *queue, floor);
  }
  if (queue) queue->abandon();
  return result;
}

}  // namespace deja
