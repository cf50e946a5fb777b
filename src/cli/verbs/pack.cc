#include <filesystem>

#include "cli/messages.h"
#include "cli/options/moment.h"
#include "cli/progress_bar.h"
#include "cli/verbs/verbs.h"
#include "eventlog/packed_recording.h"
#include "eventlog/recording_dir.h"
#include "inputs/host_clock.h"

namespace deja {

void add_pack(Command& app, Action* action) {
  struct Options {
    std::string recording, output;
    bool with_base = false, without_base = false;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("pack", "Make one compressed file of a recording, to hand it to others");
  verb->footer(
      "The file holds all that a replay needs, and so all that the guest's memory and its users' keystrokes\n"
      "held: passwords, keys, documents. Hand it only to those who may see them.\n"
      "Examples:\n"
      "  deja pack crash                  makes crash.dejavm; `deja replay crash.dejavm` takes it as it is\n"
      "  deja pack -o /tmp/x.dejavm crash");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("-o,--output", o->output, "the file to write [NAME.dejavm]; must not exist");
  CommandOption* with =
      verb->add_flag("--with-base", o->with_base, "with the disk images that it began with [so]");
  verb->add_flag("--without-base", o->without_base,
                 "without them: a replay expects them where they were recorded")
      ->excludes(with);
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_ASSIGN(auto dir, resolve_recording(o->recording));
      const std::string file =
          o->output.empty() ? dir.stem().string() + std::string(kPackedSuffix) : o->output;
      ProgressBar bar("pack");
      auto size = pack_recording(dir, file, o->without_base ? PackImages::without : PackImages::with,
                                 [&](u64 done, u64 all) { bar.update(done, all); });
      bar.clear();
      if (!size) return size.error();
      say("{}: {}\n", file, bytes(*size));
      note_damage_of(dir);
      note("the file holds all that was typed and all that was in the guest's memory, secrets included");
      return kExitOk;
    };
  });
}

void add_unpack(Command& app, Action* action) {
  struct Options {
    std::string file, name;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("unpack", "Make a recording of a packed file");
  verb->footer(
      "Example:\n"
      "  deja unpack crash.dejavm         makes the recording crash");
  verb->add_option("FILE", o->file, "made by `deja pack`")->required();
  verb->add_option("-o,--output", o->name, "name of the recording, or a path with a slash [the file's name]");
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      const std::string name = o->name.empty() ? std::filesystem::path(o->file).stem().string() : o->name;
      RealHostClock clock;
      // Claims the name, with the checks that all recordings' names go through.
      DEJA_ASSIGN(auto dir, create_recording_dir(name, clock.wall_unix_ns()));
      std::error_code ec;
      std::filesystem::remove(dir, ec);
      DEJA_TRY(unpack_recording(o->file, dir));
      say("{}\n", dir.string());
      note_damage_of(dir);
      return kExitOk;
    };
  });
}

}  // namespace deja
