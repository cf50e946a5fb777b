#include "timeline/backward_search.h"

#include <algorithm>

#include "replay/position.h"

namespace deja {
namespace {

constexpr Step kSlice = 4'000'000;  // between two looks at `interrupted`

// One segment, [from, to): the last accepted place in it goes into `result`.
Status search_segment(Navigator& nav, const BackwardSearch& search, Step from, Step to,
                      BackwardResult* result) {
  Observation& observation = nav.machine().engine().observation();
  nav.machine().engine().observe({});
  DEJA_TRY(nav.seek(from));
  nav.machine().engine().observe(search.spec);
  for (bool there = false; !there;) {
    if (search.interrupted && search.interrupted()) {
      result->outcome = BackwardResult::Outcome::interrupted;
      return {};
    }
    DEJA_ASSIGN(const Replayer::Stop stop, nav.run_to(std::min(to, nav.position() + kSlice)));
    if (stop == Replayer::Stop::diverged || stop == Replayer::Stop::log_end)
      return make_error("the replay does not get from step {} to step {} as recorded: deja verify {}",
                        format_count(from), format_count(to), nav.dir().string());
    there = stop == Replayer::Stop::reached && nav.position() >= to;
    for (Hit& hit : observation.take()) {
      const Step place = place_of(hit);
      if (place >= to || place < from || (search.accept && !search.accept(hit))) continue;
      if (place != result->at) result->hits.clear();
      result->outcome = BackwardResult::Outcome::found;
      result->at = place;
      result->hits.push_back(std::move(hit));
    }
    observation.skip_at(nav.position());
  }
  return {};
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
  BackwardResult result;
  const Step floor = std::max(search.floor, nav.first());
  Step to = search.before;
  while (to > floor && result.outcome == BackwardResult::Outcome::nothing) {
    result.searched_to = to;
    const Step from = std::max(floor, nav.segment_start(to - 1));
    if (!is_ruled_out(nav, search.spec, from, to)) DEJA_TRY(search_segment(nav, search, from, to, &result));
    to = from;
  }
  if (result.outcome == BackwardResult::Outcome::nothing) result.searched_to = floor;
  nav.machine().engine().observe({});
  return result;
}

}  // namespace deja
