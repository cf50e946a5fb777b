#include "cli/options/command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/messages.h"
#include "cli/verbs/verbs.h"

namespace deja {

CommandOption* CommandOption::required() {
  option_->required();
  return this;
}

CommandOption* CommandOption::group(const std::string& heading) {
  option_->group(heading);
  return this;
}

CommandOption* CommandOption::one_of(std::vector<std::string> values) {
  choices_ = values;
  option_->check(CLI::IsMember(std::move(values)));
  return this;
}

CommandOption* CommandOption::within(u64 least, u64 most) {
  option_->check(CLI::Range(least, most));
  return this;
}

CommandOption* CommandOption::type_name(const std::string& name) {
  option_->type_name(name);
  return this;
}

CommandOption* CommandOption::delimiter(char between_values) {
  option_->delimiter(between_values);
  return this;
}

CommandOption* CommandOption::excludes(CommandOption* other) {
  option_->excludes(other->option_);
  return this;
}

CommandOption* CommandOption::capture_default_str() {
  option_->capture_default_str();
  return this;
}

std::size_t CommandOption::count() const { return option_->count(); }

std::vector<std::string> CommandOption::names() const {
  std::vector<std::string> names;
  for (const std::string& name : option_->get_snames()) names.push_back("-" + name);
  for (const std::string& name : option_->get_lnames()) names.push_back("--" + name);
  return names;
}

std::string CommandOption::place_name() const {
  return option_->get_positional() ? option_->get_name(true) : "";
}

std::string CommandOption::value_name() const {
  if (option_->get_items_expected_max() == 0) return "";
  return option_->get_type_name();
}

std::string CommandOption::help() const { return option_->get_description(); }

std::string CommandOption::heading() const { return option_->get_group(); }

bool CommandOption::is_required() const { return option_->get_required(); }

Command::Command(const std::string& description, const std::string& name)
    : owned_(std::make_unique<CLI::App>(description, name)), app_(owned_.get()) {}

Command::Command(CLI::App* app) : app_(app) {}

Command::~Command() = default;

Command* Command::add_subcommand(const std::string& name, const std::string& description) {
  subcommands_.push_back(std::make_unique<Command>(app_->add_subcommand(name, description)));
  return subcommands_.back().get();
}

void Command::require_subcommand() { app_->require_subcommand(1); }

void Command::set_version_flag(const std::string& name, const std::string& text) {
  app_->set_version_flag(name, text);
}

void Command::footer(const std::string& text) { app_->footer(text); }

CommandOption* Command::keep(CLI::Option* option) { return &options_.emplace_back(option); }

CommandOption* Command::add_option(const std::string& name, std::string& value, const std::string& help) {
  return keep(app_->add_option(name, value, help));
}

CommandOption* Command::add_option(const std::string& name, std::vector<std::string>& values,
                                   const std::string& help) {
  CLI::Option* option = app_->add_option(name, values, help);
  if (!option->get_positional()) option->allow_extra_args(false);
  return keep(option);
}

CommandOption* Command::add_option(const std::string& name, u16& value, const std::string& help) {
  return keep(app_->add_option(name, value, help));
}

CommandOption* Command::add_option(const std::string& name, u32& value, const std::string& help) {
  return keep(app_->add_option(name, value, help));
}

CommandOption* Command::add_option(const std::string& name, u64& value, const std::string& help) {
  return keep(app_->add_option(name, value, help));
}

CommandOption* Command::add_option(const std::string& name, std::optional<u64>& value,
                                   const std::string& help) {
  return keep(app_->add_option(name, value, help));
}

CommandOption* Command::add_flag(const std::string& name, bool& value, const std::string& help) {
  return keep(app_->add_flag(name, value, help));
}

std::set<std::string> Command::options_with_values() const {
  std::set<std::string> found;
  for (const CommandOption& option : options_)
    if (!option.value_name().empty())
      for (const std::string& name : option.names()) found.insert(name);
  for (const auto& verb : subcommands_) found.merge(verb->options_with_values());
  return found;
}

void Command::parse_complete_callback(std::function<void()> callback) {
  app_->parse_complete_callback(std::move(callback));
}

void Command::final_callback(std::function<void()> callback) { app_->final_callback(std::move(callback)); }

void Command::refuse(const std::string& message) {
  throw CLI::RequiredError(message, CLI::ExitCodes::RequiredError);
}

std::optional<int> Command::parse(std::vector<std::string> words) {
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app_->parse(words);
  } catch (const CLI::Success& help) {
    return app_->exit(help);
  } catch (const CLI::ParseError& error) {
    // A word that is not understood says more than what is missing in its place.
    const std::vector<std::string> unknown = app_->remaining(true);
    if (unknown.empty())
      note("{}", error.what());
    else
      note("'{}' is not understood here", unknown.front());
    note("`deja help` lists the verbs, `deja VERB --help` explains a verb's options");
    return kExitUsage;
  }
  return std::nullopt;
}

std::string Command::name() const { return app_->get_name(); }

std::string Command::description() const { return app_->get_description(); }

std::string Command::footer() const { return app_->get_footer(); }

std::string Command::help(const std::string& program) const {
  // CLI::App::help() would go on to the verb that was typed: `deja help` would explain help.
  return app_->get_formatter()->make_help(app_, program.empty() ? name() : program + " " + name(),
                                          CLI::AppFormatMode::Normal);
}

const Command* Command::find_subcommand(const std::string& name) const {
  const auto found = std::find_if(subcommands_.begin(), subcommands_.end(),
                                  [&](const auto& command) { return command->name() == name; });
  return found == subcommands_.end() ? nullptr : found->get();
}

}  // namespace deja
