#include <string>

#include "cli/messages.h"
#include "cli/reference.h"
#include "cli/verbs/verbs.h"
#include "replay/build_info.h"

namespace deja {
namespace {

// What a package brings besides the program; made when it is built.
std::string reference(const std::string& form, const Command& app, const Command* about) {
  const std::string version = "deja " + std::string(build_version());
  if (form == "bash") return bash_completion(app);
  if (form == "zsh") return zsh_completion(app);
  if (form == "fish") return fish_completion(app);
  return about == &app ? program_manual_page(app, version) : manual_page(app, *about, version);
}

}  // namespace

void add_help(Command& app, Action* action) {
  struct Options {
    std::string topic, form;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("help", "Explain a verb");
  verb->add_option("VERB", o->topic, "the verb; without one, all are listed");
  verb->add_option("--as", o->form, "a manual page, or a shell's completion")
      ->one_of({"man", "bash", "zsh", "fish"})
      ->group("");  // not shown: packaging/ calls it
  verb->final_callback([o, action, &app] {
    *action = [o, &app]() -> Result<int> {
      const Command* about = &app;
      if (!o->topic.empty()) {
        about = app.find_subcommand(o->topic);
        if (about == nullptr) {
          note("there is no verb '{}'; `deja help` lists them", o->topic);
          return kExitUsage;
        }
      }
      if (o->form.empty())
        say("{}", Lines{about->help(o->topic.empty() ? "" : "deja")});
      else
        say("{}", Lines{reference(o->form, app, about)});
      return kExitOk;
    };
  });
}

}  // namespace deja
