#include "cli/messages.h"
#include "cli/verbs.h"

namespace deja {

void add_help(CLI::App& app, Action* action) {
  auto topic = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand("help", "Explain a verb");
  verb->add_option("VERB", *topic, "the verb; without one, all are listed");
  verb->final_callback([topic, action, &app] {
    *action = [topic, &app] {
      const CLI::App* about = &app;
      if (!topic->empty()) {
        const auto found = app.get_subcommands([&](const CLI::App* a) { return a->get_name() == *topic; });
        if (found.empty()) {
          note("there is no verb '{}'; `deja help` lists them", *topic);
          return kExitUsage;
        }
        about = found.front();
      }
      say("{}", Lines{about->help(topic->empty() ? "" : "deja")});
      return kExitOk;
    };
  });
}

}  // namespace deja
