#include "replay/survey.h"

namespace deja {

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
    ++survey.events;
    survey.last_step = e.step;
    if (std::holds_alternative<event::Digest>(e.body)) survey.digests.push_back(e.step);
    if (const auto* p = std::get_if<event::Progress>(&e.body)) survey.last_progress_ns = p->host_ns;
    if (const auto* end = std::get_if<event::End>(&e.body)) survey.end = *end;
  }
  survey.torn = recording.log.tail() == LogReader::Tail::torn;
  if (Status status = recording.check_end(); !status) survey.damage = status.error();
  return survey;
}

}  // namespace deja
