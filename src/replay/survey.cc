#include "replay/survey.h"

#include <algorithm>

namespace deja {

LogReader::Cursor LogSurvey::cursor_before(u64 event) const {
  const auto after = std::upper_bound(frames.begin(), frames.end(), event,
                                      [](u64 n, const Frame& f) { return n < f.events; });
  DEJA_CHECK(after != frames.begin(), "event {}", event);
  LogReader::Cursor cursor = (after - 1)->cursor;
  cursor.events = static_cast<u32>(event - (after - 1)->events);
  return cursor;
}

LogSurvey survey_log(Recording& recording) {
  LogSurvey survey;
  survey.frames.push_back({0, recording.log.cursor()});  // also when none can be read
  while (true) {
    auto next = recording.log.next();
    if (!next) {
      survey.damage = next.error();
      return survey;
    }
    if (!*next) break;
    const LogEvent& e = **next;
    if (LogReader::Cursor here = recording.log.cursor(); here.events == 1 && survey.events) {
      here.events = 0;
      survey.frames.push_back({survey.events, here});
    }
    if (const auto* d = std::get_if<event::Digest>(&e.body))
      survey.digests.push_back({e.step, survey.events, d->ram});
    ++survey.events;
    survey.last_step = e.step;
    if (const auto* p = std::get_if<event::Progress>(&e.body)) survey.last_progress_ns = p->host_ns;
    if (const auto* end = std::get_if<event::End>(&e.body)) survey.end = *end;
  }
  survey.torn = recording.log.tail() == LogReader::Tail::torn;
  if (Status status = recording.check_end(); !status) survey.damage = status.error();
  return survey;
}

StepRange steps_on_record(const RecordingManifest& manifest, const LogSurvey& survey) {
  const Step first = first_step(manifest);
  // A window whose log has no whole frame still has its base.
  StepRange steps{first, std::max(first, survey.last_step), survey.damage};
  if (survey.damage && manifest.end && manifest.end->final_step >= steps.last)
    steps.end = manifest.end->final_step;
  return steps;
}

Status require_sound(const std::filesystem::path& dir, const StepRange& steps) {
  if (!steps.damage) return {};
  return make_error(
      "{}. Of what is intact `deja trim --to {} {}` makes a recording, and `deja replay --to {} {}` replays "
      "it",
      steps.damage->message, steps.last, dir.string(), steps.last, dir.string());
}

std::string incomplete_note(RecordingState state, const LogSurvey& survey, const StepRange& steps) {
  if (survey.damage) return {};
  const std::string step = format_count(steps.last);
  switch (state) {
    case RecordingState::writing:
      return fmt::format("the recording is still being written; this is what is there so far, up to step {}",
                         step);
    case RecordingState::killed:
      return fmt::format("recording incomplete: ended by the death of its recorder after step {}{}", step,
                         survey.torn ? "; a part of a frame behind that is ignored" : "");
    case RecordingState::ended:
      break;
  }
  if (survey.end && survey.end->reason == event::EndReason::host_error)
    return fmt::format("the recording was ended by trouble at the host after step {}: {}", step,
                       survey.end->detail);
  return {};
}

}  // namespace deja
