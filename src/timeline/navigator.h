// One process's view of one recording: a machine that can be brought to any step of it, in both directions.
// Everything that looks at the past (debugger, searches, exports) goes through a Navigator.
//
//   DEJA_ASSIGN(auto nav, Navigator::open(dir, engine));
//   nav->seek(1'000'000);            // exactly there; earlier or later than the present position
//   nav->machine().cpu(0).rip;
//   for (Step from = nav->segment_start(at); …; from = nav->segment_start(from - 1)) …   // backwards
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "replay/replayer.h"
#include "replay/survey.h"

namespace deja {

class Navigator {
 public:
  // Builds the machine at step 0. An error: the recording cannot be replayed by this program.
  static Result<std::unique_ptr<Navigator>> open(const std::filesystem::path& dir,
                                                 const EngineOptions& engine);
  ~Navigator();

  Step position() const { return replayer_->step(); }
  Step first() const { return 0; }
  // The last step that is on record; of a recording that is being written, as of open().
  Step last() const { return survey_.last_step; }
  const LogSurvey& survey() const { return survey_; }
  const RecordingManifest& manifest() const { return replayer_->manifest(); }
  const std::filesystem::path& dir() const { return dir_; }

  // The same object for the life of the Navigator. Only to be looked at: what is changed in it is gone with
  // the next seek, and until then the replay is no longer what was recorded.
  Machine& machine() { return replayer_->machine(); }
  Replayer& replayer() { return *replayer_; }

  // Goes to `target`, in either direction: the state after everything stamped with it. An error: beyond the
  // ends, or the replay diverges from the recording on the way; the position is then anywhere. What the
  // engine observes is not observed on the way.
  Status seek(Step target);
  // Goes forward to `target` (at least position()), or less far: whatever stops the Replayer stops this.
  Result<Replayer::Stop> run_to(Step target);

  // The nearest place at or before `step` that a seek reaches without running the guest. A search backwards
  // seeks there, runs forward to where it came from, and goes on with the segment before.
  Step segment_start(Step step) const;

 private:
  explicit Navigator(std::filesystem::path dir) : dir_(std::move(dir)) {}
  Status init(const EngineOptions& engine);
  void keep_power_on_pages();
  Status travel(Step target);
  Status back_to_power_on();

  std::filesystem::path dir_;
  LogSurvey survey_;
  std::unique_ptr<Replayer> replayer_;
  Replayer::Point power_on_;
  std::unique_ptr<WriteSet> changed_;  // frames whose content may differ from power-on
  std::vector<u32> power_on_index_;    // by frame: place in power_on_pages_ plus one; 0: a page of zeros
  std::vector<u8> power_on_pages_;
};

}  // namespace deja
