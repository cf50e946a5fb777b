#include "cli/options/moment.h"

#include "cli/messages.h"
#include "eventlog/recording.h"
#include "timeline/position_finder.h"

namespace deja {

Result<std::unique_ptr<Navigator>> open_recording(const std::filesystem::path& dir,
                                                  const EngineOptions& engine) {
  DEJA_ASSIGN(std::unique_ptr<Navigator> navigator, Navigator::open(dir, engine));
  note_damage(navigator->steps().damage);
  if (!navigator->incomplete().empty()) note("{}", navigator->incomplete());
  return navigator;
}

Result<std::unique_ptr<Navigator>> open_recording(const std::string& recording,
                                                  const EngineArguments& engine) {
  DEJA_ASSIGN(const EngineOptions options, engine.apply());
  DEJA_ASSIGN(const std::filesystem::path dir, resolve_recording(recording));
  return open_recording(dir, options);
}

void note_damage_of(const std::filesystem::path& dir) {
  if (auto recording = Recording::open(dir)) note_damage(survey_log(*recording).damage);
}

Result<Step> go_to(Navigator& navigator, const std::string& at) {
  DEJA_ASSIGN(const Step step, find_position(navigator, at));
  DEJA_TRY(navigator.seek(step));
  return step;
}

}  // namespace deja
