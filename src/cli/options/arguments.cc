#include "cli/options/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace deja {
namespace {

enum class Use {
  value,         // our option of the same name, with a value
  flag,          // our option of the same name, without
  ignore_value,  // our only behaviour, or without meaning here
  ignore_flag,
  note_value,  // ignored, but worth a word
  note_flag,
  refuse,  // means something that is done otherwise here
  device,  // of QEMU's many devices there is the framebuffer; the others are a mistake
};

struct Spelling {
  std::string_view name;  // without dashes
  Use use;
  std::string_view note = {};
  std::string_view own = {};  // the name of our option, where it is another
};

constexpr std::string_view kOneMachine = "there is one kind of machine";
constexpr std::string_view kOneEngine = "there is one engine";
constexpr std::array kSpellings = {
    Spelling{"m", Use::value},
    Spelling{"smp", Use::value},
    Spelling{"cpu", Use::value},
    Spelling{"kernel", Use::value},
    Spelling{"initrd", Use::value},
    Spelling{"bios", Use::value, {}, "firmware"},
    Spelling{"append", Use::value},
    Spelling{"serial", Use::value},
    Spelling{"drive", Use::value},
    Spelling{"nic", Use::value},
    Spelling{"monitor", Use::value},
    Spelling{"no-reboot", Use::flag},
    Spelling{"nographic", Use::ignore_flag},
    Spelling{"nodefaults", Use::ignore_flag},
    Spelling{"display", Use::ignore_value},
    Spelling{"vga", Use::ignore_value},
    Spelling{"machine", Use::note_value, kOneMachine},
    Spelling{"M", Use::note_value, kOneMachine},
    Spelling{"device", Use::device},
    Spelling{"accel", Use::note_value, kOneEngine},
    Spelling{"enable-kvm", Use::note_flag, kOneEngine},
    Spelling{"hda", Use::refuse, "name the image alone, or give --drive file=IMAGE"},
    Spelling{"hdb", Use::refuse, "give --drive file=IMAGE"},
    Spelling{"cdrom", Use::refuse, "there is no CD drive; give --drive file=IMAGE,readonly"},
    Spelling{"netdev", Use::refuse, "give --nic user"},
    Spelling{"net", Use::refuse, "give --nic user"},
    Spelling{"icount", Use::note_value, "time is always counted in instructions; use `deja record`"},
};

const Spelling* find(std::string_view name) {
  const auto it =
      std::find_if(kSpellings.begin(), kSpellings.end(), [&](const Spelling& s) { return s.name == name; });
  return it == kSpellings.end() ? nullptr : &*it;
}

// bochs-display[,xres=W][,yres=H] to WxH.
constexpr std::string_view kDisplayDevice = "bochs-display";
std::string screen_size(std::string_view device) {
  const auto property = [&](std::string_view name, std::string_view standard) {
    const auto at = device.find(name);
    if (at == std::string_view::npos) return standard;
    const std::string_view rest = device.substr(at + name.size());
    return rest.substr(0, rest.find(','));
  };
  return fmt::format("{}x{}", property(",xres=", "1024"), property(",yres=", "768"));
}

// One dash and a word that no option has. CLI11 would take its first letter for an option: -help for -h, and
// -hda as well.
bool unknown_word(const std::string& a, const std::set<std::string>& with_values) {
  if (a.size() < 3 || a[0] != '-' || !std::isalpha(static_cast<unsigned char>(a[1]))) return false;
  return !with_values.contains(a.substr(0, 2));  // -m512M, -oNAME
}

}  // namespace

Result<std::vector<std::string>> from_qemu_spelling(const std::vector<std::string>& arguments,
                                                    const std::set<std::string>& with_values,
                                                    std::vector<std::string>* notes) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    const bool has_next = i + 1 < arguments.size();
    if (a == "--") {
      out.insert(out.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      break;
    }
    if (with_values.contains(a) && !find(std::string_view(a).substr(a[1] == '-' ? 2 : 1))) {
      out.push_back(a);
      if (has_next) out.push_back(arguments[++i]);
      continue;
    }
    const bool dashes = a.size() > 1 && a[0] == '-';
    const Spelling* s = dashes ? find(std::string_view(a).substr(a[1] == '-' ? 2 : 1)) : nullptr;
    if (!s) {
      if (unknown_word(a, with_values) && a != "-help")
        return make_error("there is no option {}; `deja VERB --help` lists a verb's options", a);
      out.push_back(a == "-help" ? "--help" : a);
      continue;
    }
    const std::string own = s->name == "m" ? "-m" : fmt::format("--{}", s->own.empty() ? s->name : s->own);
    switch (s->use) {
      case Use::value:
        // In one word, so that a value that starts with a dash is not taken for an option.
        if (!has_next)
          out.push_back(own);
        else if (own == "-m")
          out.insert(out.end(), {own, arguments[++i]});
        else
          out.push_back(own + "=" + arguments[++i]);
        break;
      case Use::flag:
        out.push_back(own);
        break;
      case Use::note_value:
        if (has_next) notes->push_back(fmt::format("{} {}: ignored, {}", a, arguments[i + 1], s->note));
        ++i;
        break;
      case Use::note_flag:
        notes->push_back(fmt::format("{}: ignored, {}", a, s->note));
        break;
      case Use::refuse:
        return make_error("{} is not understood here: {}", a, s->note);
      case Use::device:
        if (has_next && arguments[i + 1].starts_with(kDisplayDevice))
          out.push_back(fmt::format("--screen={}", screen_size(arguments[++i])));
        else
          out.push_back(a);
        break;
      case Use::ignore_value:
        ++i;
        break;
      case Use::ignore_flag:
        break;
    }
  }
  return out;
}

}  // namespace deja
