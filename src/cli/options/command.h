// A verb's command line: its options, where their values go, and its help. CLI11 does all of it, but its
// headers take seconds to compile, so only command.cc includes them.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/types.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace deja {

// Each function but count() returns the same option again, so that they can be chained.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option* option) : option_(option) {}

  CommandOption* required();
  CommandOption* group(const std::string& heading);  // in the help
  CommandOption* one_of(std::vector<std::string> values);
  CommandOption* within(u64 least, u64 most);
  CommandOption* type_name(const std::string& name);
  CommandOption* delimiter(char between_values);
  CommandOption* excludes(CommandOption* other);
  CommandOption* capture_default_str();  // the value that it has now is shown in the help

  std::size_t count() const;  // how often it was given

  // What manual pages and completion are made of.
  std::vector<std::string> names() const;  // "-o", "--output"; none when it is known by its place
  std::string place_name() const;          // "REC"; empty when it has names
  std::string value_name() const;          // "TEXT" or "TEXT ..."; empty for a flag
  std::string help() const;
  std::string heading() const;
  bool is_required() const;
  const std::vector<std::string>& choices() const { return choices_; }

 private:
  CLI::Option* option_;
  std::vector<std::string> choices_;
};

// A program, or one of its verbs. What add_option() and add_flag() take by reference gets the value when the
// line is parsed, and must live until then.
class Command {
 public:
  Command(const std::string& description, const std::string& name);
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  Command* add_subcommand(const std::string& name, const std::string& description);
  void require_subcommand();
  void set_version_flag(const std::string& name, const std::string& text);
  void footer(const std::string& text);

  CommandOption* add_option(const std::string& name, std::string& value, const std::string& help);
  // A list: one value each time that it is named; all that stand at its place, if it has no name.
  CommandOption* add_option(const std::string& name, std::vector<std::string>& values,
                            const std::string& help);
  CommandOption* add_option(const std::string& name, u16& value, const std::string& help);
  CommandOption* add_option(const std::string& name, u32& value, const std::string& help);
  CommandOption* add_option(const std::string& name, u64& value, const std::string& help);
  CommandOption* add_option(const std::string& name, std::optional<u64>& value, const std::string& help);
  CommandOption* add_flag(const std::string& name, bool& value, const std::string& help);

  // Called in this order when this command's part of the line has been understood, and when all of it has.
  void parse_complete_callback(std::function<void()> callback);
  void final_callback(std::function<void()> callback);
  // For callbacks: ends parsing with this message.
  [[noreturn]] static void refuse(const std::string& message);

  // Takes the words behind the program's name. Nothing, or the exit status when the user has asked for help
  // and got it, or was told what is wrong with the line.
  std::optional<int> parse(std::vector<std::string> words);

  std::string name() const;
  std::string description() const;
  std::string footer() const;
  // As for --help, below a program called `program`.
  std::string help(const std::string& program = "") const;
  const std::vector<std::unique_ptr<Command>>& subcommands() const { return subcommands_; }
  const Command* find_subcommand(const std::string& name) const;
  const std::deque<CommandOption>& options() const { return options_; }
  // Names of the options that take a value, with those of its verbs.
  std::set<std::string> options_with_values() const;

  // For add_subcommand().
  explicit Command(CLI::App* app);

 private:
  CommandOption* keep(CLI::Option* option);

  std::unique_ptr<CLI::App> owned_;  // by the program itself; verbs belong to it
  CLI::App* app_;
  std::deque<CommandOption> options_;
  std::vector<std::unique_ptr<Command>> subcommands_;
};

}  // namespace deja
