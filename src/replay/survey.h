// A look through a whole log before it is replayed: how far it goes, and whether it is sound.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "eventlog/recording.h"
#include "replay/position.h"

namespace deja {

struct LogSurvey {
  Step last_step = 0;  // of the last event
  u64 events = 0;
  // Where each frame of the log begins, with the number of events before it: to find an event by its number.
  struct Frame {
    u64 events = 0;
    LogReader::Cursor cursor;
  };
  std::vector<Frame> frames;
  // In front of the event with this number, or the end.
  LogReader::Cursor cursor_before(u64 event) const;
  u64 last_progress_ns = 0;  // host time since the start, as of the last progress mark
  struct Digest {
    Step step = 0;
    u64 event = 0;  // its number
    u64 ram = 0;
  };
  std::vector<Digest> digests;  // in order
  std::optional<event::End> end;
  std::optional<Error> damage;  // reading stopped here; what lies before it is intact
  bool torn = false;            // the last frame was not written in full
};

LogSurvey survey_log(Recording& recording);

// What can be gone to. A recording whose recorder was killed is sound up to its last whole frame; one that is
// damaged says so.
StepRange steps_on_record(const RecordingManifest& manifest, const LogSurvey& survey);

// For what concerns a recording from its start to its end. An error: it is damaged.
Status require_sound(const std::filesystem::path& dir, const StepRange& steps);

// What a user should know about a sound recording that was not ended in order; else empty.
std::string incomplete_note(RecordingState state, const LogSurvey& survey, const StepRange& steps);

}  // namespace deja
