// One process's view of one recording: a machine that can be brought to any step of it, in both directions.
// Everything that looks at the past (debugger, searches, exports) goes through a Navigator.
//
//   DEJA_ASSIGN(auto nav, Navigator::open(dir, engine));
//   nav->seek(1'000'000);            // exactly there; earlier or later than the present position
//   nav->machine().cpu(0).rip;
//
// A seek starts at the nearest place whose state is known: a checkpoint of the recording, or a snapshot that
// was taken in memory on an earlier way. Snapshots are dense near the present position and ever sparser away
// from it, so that many small steps back cost little.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/restore.h"
#include "replay/position.h"
#include "replay/replayer.h"
#include "replay/survey.h"
#include "timeline/ram_history.h"

namespace deja {

class Navigator {
 public:
  // Builds the machine. An error: the recording cannot be replayed by this program. It stands nowhere until
  // the first seek.
  static Result<std::unique_ptr<Navigator>> open(const std::filesystem::path& dir,
                                                 const EngineOptions& engine);

  Step position() const { return replayer_->step(); }
  // Where the recording begins: 0 for power-on, or the step of its base.
  Step first() const { return first_step(manifest()); }
  // The last step that is on record; of a recording that is being written, as of open().
  Step last() const { return steps_.last; }
  const StepRange& steps() const { return steps_; }
  // What a user should know of a recording that was not ended in order; see survey.h.
  const std::string& incomplete() const { return incomplete_; }
  const LogSurvey& survey() const { return survey_; }
  const RecordingManifest& manifest() const { return replayer_->manifest(); }
  const std::filesystem::path& dir() const { return dir_; }
  const CheckpointReader& checkpoints() const { return checkpoints_; }

  // The same object for the life of the Navigator. Only to be looked at: what is changed in it is gone with
  // the next seek, and until then the replay is no longer what was recorded.
  Machine& machine() { return replayer_->machine(); }
  const Machine& machine() const { return replayer_->machine(); }
  Replayer& replayer() { return *replayer_; }

  // Goes to `target`, in either direction: the state after everything stamped with it. An error: beyond the
  // ends, or the replay diverges from the recording on the way; the position is then anywhere. What the
  // engine observes is not observed on the way.
  Status seek(Step target);
  // Goes to the state that the recorder's checkpoint at `step` has, before what else happened at that step.
  // False: there is none behind a digest, and nothing was done.
  Result<bool> go_to_checkpoint(Step step);
  // Goes forward to `target` (at least position()), or less far: whatever stops the Replayer stops this.
  Result<Replayer::Stop> run_to(Step target);

  // Goes forward to `target` through everything that lies between, for those who listen to the machine. What
  // the engine observes is not observed.
  Status scan_to(Step target);

  // The nearest place at or before `step` that a seek reaches without running the guest. A search backwards
  // seeks there, runs forward to where it came from, and goes on with the segment before.
  Step segment_start(Step step) const;
  // The first checkpoint behind `step`, or the end: to go through a recording piece by piece.
  Step segment_end(Step step) const;
  // Whether anything can have written to the page at `frame` after `from` and up to `to`: false when the
  // checkpoints around know that nothing has.
  bool may_have_been_written(u32 frame, Step from, Step to) const;

  // For a recording that goes on from here: where its checkpoints go on, beginning with a copy of those up to
  // here. Lasts as long as the Navigator. An error: they are damaged.
  Result<CheckpointWriter::Continuation> continuation();

  // Loads what is absent of RAM (GuestRam), for a machine that is to go on without the recording. An error:
  // some of it is damaged beyond repair.
  Status load_all();
  // An error: some page that was loaded since the last seek, because somebody looked at it, is damaged beyond
  // repair; there are zeros in its place.
  Status sound() const;

  // Memory that snapshots may take, in bytes.

 private:
  struct Snapshot {
    Replayer::Point point;
    RamHistory::State ram;
  };

  Navigator(std::filesystem::path dir, const EngineOptions& engine) : dir_(std::move(dir)), engine_(engine) {}
  // `before`: only checkpoints before this step are used, and everything in them is read at once.
  static Result<std::unique_ptr<Navigator>> open(const std::filesystem::path& dir,
                                                 const EngineOptions& engine, std::optional<Step> before);
  Status init(std::optional<Step> before);
  RamHistory::State ram_at(std::size_t i) const;
  // For RamHistory: lets another machine come to where the page came into being.
  Status make_again(u32 number, u8* page);
  Result<Replayer::Point> checkpointed_point(std::size_t i);
  Status travel(Step target);
  Status travel_once(Step target);
  bool avoid_damage();
  Status unobserved(const std::function<Status()>& f);
  Status expect_reached(Replayer::Stop stop) const;
  void leave_trail();
  // Puts the machine to the nearest known place at or before `target`, if that is nearer than where it is.
  Status jump_near(Step target);
  Status restore_checkpoint(std::size_t i);
  std::optional<std::size_t> sound_checkpoint(Step step) const;
  void take_snapshot();
  // Drops those that lie too dense for their distance from the present, or that no memory is left for.
  void thin_snapshots();

  std::filesystem::path dir_;
  EngineOptions engine_;
  LogSurvey survey_;
  StepRange steps_;
  std::string incomplete_;
  CheckpointReader checkpoints_;
  std::vector<bool> damaged_;  // by checkpoint: found out when it was to be used
  std::unique_ptr<Replayer> replayer_;
  std::unique_ptr<RamHistory> history_;
  std::unique_ptr<DiskHistory> disks_;
  std::map<Step, Snapshot> snapshots_;  // always has first()
  static constexpr u64 kSnapshotBudget = 512_MiB;
  std::unique_ptr<Navigator> repairer_;  // stands at checkpoint number repaired_
  std::size_t repaired_ = 0;
};

}  // namespace deja
