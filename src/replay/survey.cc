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
  while (true) {
    auto next = recording.log.next();
    if (!next) {
      survey.damage = next.error();
      return survey;
    }
    if (!*next) break;
    const LogEvent& e = **next;
    if (LogReader::Cursor here = recording.log.cursor(); here.events == 1) {
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

}  // namespace deja
