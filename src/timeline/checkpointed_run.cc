#include "timeline/checkpointed_run.h"

#include <algorithm>

#include "replay/apply.h"
#include "replay/checkpointing.h"
#include "replay/position.h"

namespace deja {
namespace {

constexpr Step kPiece = 50'000'000;  // between two calls of progress

}  // namespace

Status run_with_checkpoints(Replayer& replayer, CheckpointWriter& writer, const CheckpointedRun& run) {
  Machine& machine = replayer.machine();
  std::string serial;
  machine.on_serial([&](u8 byte) {
    const char c = static_cast<char>(byte);
    add_serial_text(serial, {&c, 1});
  });
  DEJA_CHECK(run.interval > 0, "from step {} to {}", replayer.step(), run.to);
  const auto go = [&]() -> Status {
    Step next_checkpoint = (replayer.step() / run.interval + 1) * run.interval;
    while (replayer.step() < run.to) {
      const Step target = std::min({run.to, next_checkpoint, replayer.step() + kPiece});
      DEJA_ASSIGN(const Replayer::Stop stop, replayer.run_to(target));
      if (stop == Replayer::Stop::diverged)
        return make_error("at step {} the replay is not what was recorded: {}; `deja verify` tells more",
                          format_count(replayer.divergence()->step), replayer.divergence()->reason);
      if (stop != Replayer::Stop::reached) return {};
      if (target == next_checkpoint) {
        bring_to_rest(machine);
        writer.wait_until_ready();
        SessionCounts counts = replayer.counts();
        counts.events += static_cast<u64>(run.event_offset);
        writer.take(checkpoint_point(machine, counts, std::exchange(serial, {})));
        next_checkpoint += run.interval;
      }
      if (run.progress) run.progress(replayer.step(), run.to);
    }
    return {};
  };
  Status status = go();
  machine.on_serial({});
  return status;
}

}  // namespace deja
