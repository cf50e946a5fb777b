#include "replay/replay_access.h"

#include "disk/image_hash.h"
#include "disk/image_process.h"
#include "eventlog/recording.h"
#include "sandbox/sandbox.h"

namespace deja {

Status allow_replay(const std::filesystem::path& recording) {
  if (!sandbox::enabled() || sandbox::entered()) return {};
  DEJA_ASSIGN(const Recording opened, Recording::open(recording));
  sandbox::allow_read(opened.dir);
  for (const RecordedFile& input : opened.manifest.inputs)
    if (input.stored.empty()) sandbox::allow_read(input.original_path);
  if (opened.manifest.machine.drives.empty()) return {};
  // Hashes that are known need not be computed again.
  if (const std::filesystem::path cache = image_hash_cache(); !cache.empty()) sandbox::allow_read(cache);
  return start_image_process();
}

}  // namespace deja
