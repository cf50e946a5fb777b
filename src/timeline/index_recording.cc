#include "timeline/index_recording.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "checkpoint/checkpoint_writer.h"
#include "replay/apply.h"
#include "replay/checkpointing.h"
#include "replay/position.h"
#include "replay/replayer.h"
#include "replay/survey.h"

namespace deja {
namespace {

constexpr Step kPiece = 50'000'000;  // between two calls of progress

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
      return make_error("{}: cannot rename to {}: {}", path_.string(), to.string(), std::strerror(errno));
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
    const LogSurvey survey = survey_log(recording);
    last = survey.last_step;
  }
  DEJA_ASSIGN(const std::unique_ptr<Replayer> replayer, Replayer::open(request.dir, request.engine));
  Machine& machine = replayer->machine();
  if (machine.drive_count())
    return make_error("{}: its machine has drives, and checkpoints do not hold what was written to them",
                      request.dir.string());
  Unfinished unfinished(request.dir / fmt::format("{}.new.{}", kCheckpointsFile, ::getpid()));
  DEJA_ASSIGN(std::unique_ptr<AppendFile> file, create_append_file(unfinished.path().string()));
  DEJA_ASSIGN(
      const std::unique_ptr<CheckpointWriter> writer,
      CheckpointWriter::create(std::move(file), checkpoint_owner(replayer->manifest()), machine.ram()));
  for (Step next_checkpoint = request.interval; replayer->step() < last;) {
    const Step target = std::min({last, next_checkpoint, replayer->step() + kPiece});
    DEJA_ASSIGN(const Replayer::Stop stop, replayer->run_to(target));
    if (stop == Replayer::Stop::diverged)
      return make_error("{}: at step {} the replay is not what was recorded: {}; `deja verify` tells more",
                        request.dir.string(), format_count(replayer->divergence()->step),
                        replayer->divergence()->reason);
    if (stop != Replayer::Stop::reached) break;
    if (target == next_checkpoint) {
      bring_to_rest(machine);
      writer->wait_until_ready();
      writer->take(checkpoint_point(machine, replayer->counts()));
      next_checkpoint += request.interval;
    }
    if (request.progress) request.progress(replayer->step(), last);
  }
  DEJA_TRY(writer->finish());
  DEJA_TRY(unfinished.move_to(request.dir / kCheckpointsFile));
  return IndexReport{replayer->step(), writer->taken(), writer->bytes()};
}

}  // namespace deja
