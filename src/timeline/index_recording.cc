#include "timeline/index_recording.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/host_limits.h"
#include "replay/checkpointing.h"
#include "replay/replayer.h"
#include "replay/survey.h"
#include "timeline/checkpointed_run.h"

namespace deja {
namespace {

// A file under a name of its own until it is whole.
class Unfinished {
 public:
  explicit Unfinished(std::filesystem::path path) : path_(std::move(path)) {}
  ~Unfinished() {
    std::error_code ec;
    if (!path_.empty()) std::filesystem::remove(path_, ec);
  }
  const std::filesystem::path& path() const { return path_; }
  Status move_to(const std::filesystem::path& to) {
    if (::rename(path_.c_str(), to.c_str()) != 0)
      return make_error("{}: cannot rename to {}: {}", path_.string(), to.string(), host_error(errno));
    path_.clear();
    return {};
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

Result<IndexReport> index_recording(const IndexRequest& request) {
  Step last = 0;
  {
    DEJA_ASSIGN(Recording recording, Recording::open(request.dir));
    if (recording.state == RecordingState::writing)
      return make_error(
          "{}: is still being written, and its recorder takes the checkpoints; wait for its end",
          request.dir.string());
    const StepRange steps = steps_on_record(recording.manifest, survey_log(recording));
    DEJA_TRY(require_sound(request.dir, steps));
    last = steps.last;
  }
  DEJA_ASSIGN(const std::unique_ptr<Replayer> replayer, Replayer::open(request.dir, request.engine));
  Machine& machine = replayer->machine();
  const std::filesystem::path path = request.dir / checkpoints_file(replayer->manifest());
  Unfinished unfinished(path.string() + fmt::format(".new.{}", ::getpid()));
  DEJA_ASSIGN(std::unique_ptr<AppendFile> file, create_append_file(unfinished.path().string()));
  // The base that the recording begins with, if it has one, is kept.
  DEJA_ASSIGN(const CheckpointReader old, open_checkpoints(request.dir, replayer->manifest(), machine));
  CheckpointWriter::Continuation from;
  if (replayer->manifest().base) from = {&old, 0, {}, {}};
  from.disks = machine.save_disks();
  DEJA_ASSIGN(
      const std::unique_ptr<CheckpointWriter> writer,
      CheckpointWriter::resume(std::move(file), checkpoint_owner(replayer->manifest()), machine.ram(), from));
  DEJA_TRY(run_with_checkpoints(*replayer, *writer, {last, request.interval, 0, request.progress}));
  DEJA_TRY(writer->finish());
  DEJA_TRY(unfinished.move_to(path));
  return IndexReport{replayer->step(), writer->taken(), writer->bytes()};
}

}  // namespace deja
