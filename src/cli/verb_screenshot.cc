#include "cli/messages.h"
#include "cli/moment.h"
#include "cli/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "replay/screenshot.h"
#include "sandbox/outside_file.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, at = "end", file;
};

int screenshot(const Options& o) {
  auto engine = o.engine.apply();
  if (!engine) return fail(engine.error());
  auto dir = resolve_recording(o.recording);
  if (!dir) return fail(dir.error());
  if (Status status = prepare_outside_file(o.file); !status) return fail(status.error());
  auto nav = open_recording(*dir, *engine);
  if (!nav) return fail(nav.error());
  auto step = go_to(**nav, o.at);
  if (!step) return fail(step.error());
  auto picture = take_picture((*nav)->machine());
  if (!picture) return fail(make_error("{}: step {}: {}", dir->string(), *step, picture.error().message));
  if (Status status = (*nav)->sound(); !status) return fail(status.error());
  if (Status status = write_png(*picture, o.file); !status) return fail(status.error());
  say("{}: the screen at step {}, {}x{}\n", o.file, format_count(*step), picture->width, picture->height);
  return kExitOk;
}

}  // namespace

void add_screenshot(CLI::App& app, Action* action) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("screenshot", "Write the picture on the screen at some moment as PNG");
  verb->footer(
      "Examples:\n"
      "  deja screenshot crash last.png\n"
      "  deja screenshot crash --at panic panic.png\n"
      "The machine must have been recorded with a screen: deja record --screen 1024x768 …");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("FILE", o->file, "the file to write; must not exist")->required();
  verb->add_option("--at", o->at, "the moment: docs/time-travel.md has all forms")->capture_default_str();
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o] { return screenshot(*o); }; });
}

}  // namespace deja
