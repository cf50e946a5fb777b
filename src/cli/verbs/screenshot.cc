#include "replay/screenshot.h"
#include "cli/messages.h"
#include "cli/options/moment.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "sandbox/outside_file.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, at = "end", file;
};

Result<int> screenshot(const Options& o) {
  DEJA_ASSIGN(auto engine, o.engine.apply());
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  DEJA_TRY(prepare_outside_file(o.file));
  DEJA_ASSIGN(auto nav, open_recording(dir, engine));
  DEJA_ASSIGN(auto step, go_to(*nav, o.at));
  auto picture = take_picture(nav->machine());
  if (!picture) return make_error("{}: step {}: {}", dir.string(), step, picture.error().message);
  DEJA_TRY(nav->sound());
  DEJA_TRY(write_png(*picture, o.file));
  say("{}: the screen at step {}, {}x{}\n", o.file, format_count(step), picture->width, picture->height);
  return kExitOk;
}

}  // namespace

void add_screenshot(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("screenshot", "Write the picture on the screen at some moment as PNG");
  verb->footer(
      "Examples:\n"
      "  deja screenshot crash last.png\n"
      "  deja screenshot crash --at panic panic.png\n"
      "The machine must have been recorded with a screen: deja record --screen 1024x768 …");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("FILE", o->file, "the file to write; must not exist")->required();
  verb->add_option("--at", o->at, "the moment: docs/time-travel.md has all forms")->capture_default_str();
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return screenshot(*o); }; });
}

}  // namespace deja
