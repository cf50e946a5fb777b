#include "replay/replay_access.h"

#include <algorithm>
#include <vector>

#include "disk/image_process.h"
#include "eventlog/recording.h"
#include "machine/memory_map.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

namespace fs = std::filesystem;

// An input as it was found before the sandbox was entered. The content of a drive, and of what is not in the
// recording, has been checked then; that of all but drives is whenever it is loaded.
struct Kept {
  fs::path recording;
  RecordedFile input;
  Result<HostFile> file;
  Result<std::string> identity;  // of the file, when it was checked
};
std::vector<Kept> g_kept;

bool is_loaded(const RecordedFile& input) {
  return input.role == "firmware" || input.role == "kernel" || input.role == "initrd";
}

// Is the machine built from it? Nothing else that a manifest names is opened.
bool fills_a_role(const RecordedFile& input, const MachineSpec& machine) {
  const std::size_t drives = std::min<std::size_t>(machine.drives.size(), kMaxDrives);
  bool found = is_loaded(input);
  for (std::size_t i = 0; i < drives; ++i) found = found || input.role == fmt::format("drive{}", i);
  return found;
}

// What is loaded is hashed then, so a copy in the recording need not be now. A file outside is one of the
// user's, and a drive's content is never looked at as a whole again.
Result<HostFile> find(const fs::path& recording, const RecordedFile& input) {
  const bool is_hashed_later = is_loaded(input) && !input.stored.empty();
  return is_hashed_later ? open_input(recording, input) : find_input(recording, input);
}

void keep(const fs::path& recording, const RecordedFile& input) {
  Result<HostFile> file = find(recording, input);
  Result<std::string> identity = file ? file->identity() : file.error();
  g_kept.push_back({recording, input, std::move(file), std::move(identity)});
}

// The recorder may have learnt the SHA-256 of an image since.
bool is_same(const RecordedFile& a, const RecordedFile& b) {
  return a.role == b.role && a.original_path == b.original_path && a.size == b.size && a.stored == b.stored &&
         a.identity == b.identity && (a.sha256 == b.sha256 || a.sha256.empty());
}

Result<HostFile> open_recorded(const fs::path& recording, const RecordedFile& input) {
  const auto kept = std::find_if(g_kept.begin(), g_kept.end(), [&](const Kept& k) {
    return k.recording == recording && is_same(k.input, input);
  });
  if (kept == g_kept.end() && sandbox::entered())
    return make_error("{}: its manifest names another {} than before; try again", recording.string(),
                      input.role);
  if (kept == g_kept.end()) return find(recording, input);
  if (!kept->file) return kept->file.error();
  DEJA_ASSIGN(const std::string identity, kept->file->identity());
  if (!kept->identity || identity != *kept->identity)
    return make_error("{} '{}': was changed while it was in use", input.role, kept->file->path());
  return kept->file->duplicate();
}

Status add(const fs::path& recording, const RecordedFile& input, const MachineSpec& machine,
           GuestFiles* files) {
  const std::size_t drive = files->drives.size();
  if (input.role == "firmware") {
    DEJA_ASSIGN(files->firmware, recorded_file(recording, input, kMaxRom));
  } else if (input.role == "kernel") {
    DEJA_ASSIGN(files->kernel, recorded_file(recording, input, kMaxGuestFile));
  } else if (input.role == "initrd") {
    DEJA_ASSIGN(files->initrd, recorded_file(recording, input, kMaxGuestFile));
  } else if (input.role == fmt::format("drive{}", drive) && drive < machine.drives.size()) {
    const std::string& format = machine.drives[drive].format;
    if (format.empty())
      return make_error("{}: machine.drives[{}].format is empty", recording.string(), drive);
    DEJA_ASSIGN(HostFile file, open_recorded(recording, input));
    DEJA_ASSIGN(DiskImage image, open_disk_image(std::move(file), format));
    files->drives.push_back(std::move(image));
  }
  return {};
}

}  // namespace

Status allow_replay(const fs::path& recording) {
  if (!sandbox::enabled() || sandbox::entered()) return {};
  DEJA_ASSIGN(const Recording opened, Recording::open(recording));
  sandbox::allow_read(opened.dir);
  const auto known = [&](const RecordedFile& input) {
    return std::any_of(g_kept.begin(), g_kept.end(),
                       [&](const Kept& k) { return k.recording == recording && k.input == input; });
  };
  for (const RecordedFile& input : opened.manifest.inputs)
    if (fills_a_role(input, opened.manifest.machine) && !known(input)) keep(recording, input);
  return opened.manifest.machine.drives.empty() ? Status() : start_image_process();
}

Result<LoadedFile> recorded_file(const fs::path& recording, const RecordedFile& input, u64 limit) {
  DEJA_ASSIGN(const HostFile file, open_recorded(recording, input));
  return load_input(file, input, limit);
}

Result<GuestFiles> recorded_guest_files(const fs::path& recording, const RecordingManifest& manifest) {
  GuestFiles files;
  for (const RecordedFile& input : manifest.inputs) DEJA_TRY(add(recording, input, manifest.machine, &files));
  if (!files.firmware && files.kernel.path.empty())
    return make_error("{}: the manifest names neither a kernel nor firmware", recording.string());
  return files;
}

}  // namespace deja
