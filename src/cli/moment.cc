#include "cli/moment.h"

#include "eventlog/recording.h"
#include "timeline/position_finder.h"

namespace deja {

Result<std::unique_ptr<Navigator>> open_recording(const std::string& recording,
                                                  const EngineArguments& engine) {
  DEJA_ASSIGN(const EngineOptions options, engine.apply());
  DEJA_ASSIGN(const std::filesystem::path dir, resolve_recording(recording));
  return Navigator::open(dir, options);
}

Result<Step> go_to(Navigator& navigator, const std::string& at) {
  DEJA_ASSIGN(const Step step, find_position(navigator, at));
  DEJA_TRY(navigator.seek(step));
  return step;
}

}  // namespace deja
