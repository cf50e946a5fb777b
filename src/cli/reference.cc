#include "cli/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace deja {
namespace {

// The name of a recording by its place, in all verbs that take one.
constexpr std::string_view kRecording = "REC";

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// Without those that the help does not show.
std::vector<CommandOption> shown_options(const Command& verb) {
  std::vector<CommandOption> shown;
  for (const CommandOption& option : verb.options())
    if (!option.heading().empty()) shown.push_back(option);
  return shown;
}

std::string join(const std::vector<std::string>& words, std::string_view between) {
  return fmt::format("{}", fmt::join(words, between));
}

// Text within a line of roff: a backslash and a minus sign mean something else there.
std::string roff(const std::string& text) { return replace_all(replace_all(text, "\\", "\\e"), "-", "\\-"); }

// Lines that stay as they are; one that begins with a dot or a quote would be a request.
std::string roff_lines(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string line = roff(text.substr(at, end - at));
    if (line.starts_with('.') || line.starts_with('\'')) out += "\\&";
    out += line + "\n";
    at = end + 1;
  }
  return out;
}

// Names, and what stands for the value.
std::string option_line(const CommandOption& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.names()) names.push_back("\\fB" + roff(name) + "\\fR");
  std::string line = join(names, ", ");
  if (!option.value_name().empty()) line += " \\fI" + roff(option.value_name()) + "\\fR";
  return line;
}

std::string page_head(const std::string& name, const std::string& does, std::string_view version) {
  return fmt::format(".TH {} 1 \"\" \"{}\" \"DejaVM\"\n.SH NAME\n{} \\- {}\n", replace_all(name, "-", "\\-"),
                     version, roff(name), roff(does));
}

std::string synopsis(const Command& program, const Command& verb) {
  std::string text = fmt::format(".SH SYNOPSIS\n.B {} {}\n[\\fIoptions\\fR]", program.name(), verb.name());
  for (const CommandOption& option : shown_options(verb)) {
    if (option.place_name().empty()) continue;
    const std::string place = "\\fI" + roff(option.place_name()) + "\\fR";
    text += option.is_required() ? " " + place : " [" + place + "]";
  }
  return text + "\n";
}

// Options under their headings, in the order in which the verb declares them.
std::string option_sections(const Command& verb) {
  std::vector<std::string> headings;
  for (const CommandOption& option : shown_options(verb))
    if (std::find(headings.begin(), headings.end(), option.heading()) == headings.end())
      headings.push_back(option.heading());
  std::string places, text;
  for (const CommandOption& option : shown_options(verb))
    if (!option.place_name().empty())
      places += fmt::format(".TP\n\\fI{}\\fR\n{}", roff(option.place_name()), roff_lines(option.help()));
  if (!places.empty()) text += ".SH ARGUMENTS\n" + places;
  text += ".SH OPTIONS\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nPrint this in short.\n";
  for (const std::string& heading : headings) {
    std::string section;
    for (const CommandOption& option : shown_options(verb))
      if (option.heading() == heading && option.place_name().empty())
        section += fmt::format(".TP\n{}\n{}", option_line(option), roff_lines(option.help()));
    if (section.empty()) continue;
    if (heading != "Options") text += fmt::format(".SS {}\n", roff(heading));
    text += section;
  }
  return text;
}

std::vector<std::string> verb_names(const Command& program) {
  std::vector<std::string> names;
  for (const auto& verb : program.subcommands()) names.push_back(verb->name());
  return names;
}

std::vector<std::string> option_names(const Command& verb) {
  std::vector<std::string> names = {"-h", "--help"};
  for (const CommandOption& option : shown_options(verb))
    for (const std::string& name : option.names()) names.push_back(name);
  return names;
}

std::string in_single_quotes(const std::string& text) { return "'" + replace_all(text, "'", "'\\''") + "'"; }

// A line of bash for each kind of word that may stand where `verb` takes something by its place.
std::string bash_places(const Command& program, const Command& verb) {
  std::string text;
  for (const CommandOption& option : shown_options(verb)) {
    const std::string place = option.place_name();
    if (place == kRecording)
      text += "      _deja_recordings\n";
    else if (place == "VERB")
      text += fmt::format("      words=\"{}\"\n", join(verb_names(program), " "));
    else if (!place.empty() && !option.choices().empty())
      text += fmt::format("      words+=\" {}\"\n", join(option.choices(), " "));
  }
  return text;
}

// `$previous` of bash against the options that take one of a few words.
std::string bash_choices(const Command& verb) {
  std::string text;
  for (const CommandOption& option : shown_options(verb))
    if (!option.choices().empty() && !option.names().empty())
      text += fmt::format("    {}:{}) words=\"{}\"; valued=1 ;;\n", verb.name(),
                          join(option.names(), "|" + verb.name() + ":"), join(option.choices(), " "));
  return text;
}

// A description for zsh's _arguments and _describe, in which brackets and colons end it.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : replace_all(text, "\n", " ")) {
    if (std::string_view("[]:\\").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// What completes an option's value, or a word by its place.
std::string zsh_action(const Command& program, const CommandOption& option) {
  if (option.place_name() == kRecording) return "_deja_recordings";
  if (option.place_name() == "VERB") return "(" + join(verb_names(program), " ") + ")";
  return option.choices().empty() ? "_files" : "(" + join(option.choices(), " ") + ")";
}

std::string zsh_arguments(const Command& program, const Command& verb) {
  std::string text = "'(-h --help)'{-h,--help}'[print help]'";
  for (const CommandOption& option : shown_options(verb)) {
    const std::vector<std::string> names = option.names();
    const std::string action = zsh_action(program, option);
    if (names.empty()) {
      const bool many = option.value_name().ends_with("...");
      text += " " + in_single_quotes(
                        fmt::format("{}:{}:{}", many ? "*" : "", zsh_text(option.place_name()), action));
      continue;
    }
    const std::string value =
        option.value_name().empty() ? "" : fmt::format(":{}:{}", zsh_text(option.value_name()), action);
    const std::string help = in_single_quotes("[" + zsh_text(option.help()) + "]" + value);
    text += names.size() == 1 ? " " + names[0] + help
                              : fmt::format(" '({})'{{{}}}{}", join(names, " "), join(names, ","), help);
  }
  return text;
}

std::string fish_option(const std::string& verb, const CommandOption& option) {
  std::string text = fmt::format("complete -c deja -n '__fish_seen_subcommand_from {}'", verb);
  for (const std::string& name : option.names())
    text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  if (!option.value_name().empty()) text += " -r";
  if (!option.choices().empty()) text += fmt::format(" -f -a '{}'", join(option.choices(), " "));
  const std::string help = replace_all(replace_all(option.help(), "\\", "\\\\"), "'", "\\'");
  return text + " -d '" + replace_all(help, "\n", " ") + "'\n";
}

}  // namespace

std::string manual_page(const Command& program, const Command& verb, std::string_view version) {
  const std::string name = program.name() + "-" + verb.name();
  std::string text = page_head(name, verb.description(), version);
  text += synopsis(program, verb) + option_sections(verb);
  if (!verb.footer().empty()) text += ".SH NOTES AND EXAMPLES\n.nf\n" + roff_lines(verb.footer()) + ".fi\n";
  return text +
         ".SH EXIT STATUS\n0: done; 1: an error; 2: the command line is wrong; 3: done, but the recording is "
         "damaged and this is of its intact part.\n.SH SEE ALSO\n.BR deja (1)\n";
}

std::string program_manual_page(const Command& program, std::string_view version) {
  std::string text = page_head(program.name(), program.description(), version);
  text += fmt::format(".SH SYNOPSIS\n.B {}\n\\fIverb\\fR [\\fIoptions\\fR]\n.SH VERBS\n", program.name());
  for (const auto& verb : program.subcommands())
    text += fmt::format(".TP\n.BR {}\\-{} (1)\n{}", program.name(), roff(verb->name()),
                        roff_lines(verb->description()));
  return text + ".SH FILES\n.TP\n.I ${XDG_DATA_HOME:\\-~/.local/share}/deja\nRecordings.\n";
}

std::string bash_completion(const Command& program) {
  std::string options, places, choices;
  for (const auto& verb : program.subcommands()) {
    options += fmt::format("    {}) options=\"{}\" ;;\n", verb->name(), join(option_names(*verb), " "));
    const std::string lines = bash_places(program, *verb);
    if (!lines.empty()) places += fmt::format("    {})\n{}      ;;\n", verb->name(), lines);
    choices += bash_choices(*verb);
  }
  std::string text = R"(# Completion of deja for bash.
# Names of recordings come from others: they never pass compgen -W, which would run the commands in them.
_deja_recordings() {
  local path name
  for path in "${XDG_DATA_HOME:-$HOME/.local/share}"/deja/*.deja; do
    name=${path##*/} name=${name%.deja}
    if [ -e "$path" ] && [[ $name = "$current"* ]]; then recordings+=("$name"); fi
  done
  words+=" latest"
}

_deja() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb="" words="" options="" valued=0
  local recordings=()
  [ "$COMP_CWORD" -le 1 ] || verb=${COMP_WORDS[1]}
  case $verb in
    "") options="--help --version" words="@VERBS@" ;;
@OPTIONS@  esac
  case $verb:$previous in
@CHOICES@  esac
  if [ "$valued" = 0 ]; then
    case $verb in
@PLACES@    esac
    if [[ $current = -* ]]; then words=$options recordings=(); fi
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current"
                           [ "$valued" = 1 ] || [ -z "$verb" ] || [[ $current = -* ]] || compgen -f -- "$current")
  COMPREPLY+=("${recordings[@]}")
}
complete -o filenames -F _deja deja
)";
  text = replace_all(text, "@VERBS@", join(verb_names(program), " "));
  text = replace_all(text, "@OPTIONS@", options);
  text = replace_all(text, "@CHOICES@", choices);
  return replace_all(text, "@PLACES@", places);
}

std::string zsh_completion(const Command& program) {
  std::string verbs, arguments;
  for (const auto& verb : program.subcommands()) {
    verbs += " " + in_single_quotes(verb->name() + ":" + zsh_text(verb->description()));
    arguments += fmt::format("        {}) _arguments {} ;;\n", verb->name(), zsh_arguments(program, *verb));
  }
  std::string text = R"(#compdef deja
# Completion of deja for zsh.
_deja_recordings() {
  local -a names
  names=(${XDG_DATA_HOME:-$HOME/.local/share}/deja/*.deja(N:t:r) latest)
  compadd -- $names
  _files
}

_deja() {
  local curcontext=$curcontext state line
  local -a verbs
  _arguments -C '1: :->verb' '*:: :->rest'
  case $state in
    verb)
      verbs=(@VERBS@)
      _describe verb verbs
      ;;
    rest)
      case $words[1] in
@ARGUMENTS@      esac
      ;;
  esac
}
_deja "$@"
)";
  return replace_all(replace_all(text, "@VERBS@", verbs), "@ARGUMENTS@", arguments);
}

std::string fish_completion(const Command& program) {
  std::string text = R"(# Completion of deja for fish.
function __deja_recordings
  set -l home $HOME/.local/share
  set -q XDG_DATA_HOME; and set home $XDG_DATA_HOME
  for path in $home/deja/*.deja
    string replace -r '.*/(.*)\.deja$' '$1' $path
  end
  echo latest
end
)";
  for (const auto& verb : program.subcommands()) {
    const std::string does = replace_all(verb->description(), "'", "\\'");
    text += fmt::format("complete -c deja -f -n __fish_use_subcommand -a {} -d '{}'\n", verb->name(), does);
    for (const CommandOption& option : shown_options(*verb)) {
      if (!option.names().empty())
        text += fish_option(verb->name(), option);
      else if (option.place_name() == kRecording)
        text += fmt::format("complete -c deja -n '__fish_seen_subcommand_from {}' -a '(__deja_recordings)'\n",
                            verb->name());
      else if (!option.choices().empty())
        text += fmt::format("complete -c deja -n '__fish_seen_subcommand_from {}' -a '{}'\n", verb->name(),
                            join(option.choices(), " "));
    }
  }
  return text;
}

}  // namespace deja
