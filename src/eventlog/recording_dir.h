// Where recordings are: NAME.deja/ directories, by default under ${XDG_DATA_HOME:-~/.local/share}/deja, with
// a link `latest` to the newest one there.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "disk/disk_image.h"
#include "eventlog/manifest.h"
#include "machine/input_files.h"

namespace deja {

inline constexpr std::string_view kRecordingSuffix = ".deja";
inline constexpr std::string_view kManifestFile = "manifest.json";
inline constexpr std::string_view kInputsDir = "inputs";
inline constexpr std::string_view kMonitorSocket = "monitor.sock";

// Directory of the user's recordings (need not exist yet).
Result<std::filesystem::path> default_recordings_dir();

// Creates the directory of a new recording. `name`: empty = from the date, e.g. 2026-11-22-153012.deja; with
// a slash = a path; else a name in the default directory. ".deja" is added when missing. An existing one is
// refused. Does not move `latest`.
Result<std::filesystem::path> create_recording_dir(std::string_view name, i64 now_unix_ns);

// Where a session can begin recordings after the sandbox was entered, by which time this process may make no
// directory, and no link `latest`, any more: a helper process has the directories ready under hidden names,
// and removes those that were not needed. `dir` is made if it is not there. To be called once, before the
// sandbox is entered.
inline constexpr unsigned kMostLaterRecordings = 16;
Status prepare_later_recordings(const std::filesystem::path& dir, unsigned most = kMostLaterRecordings);
// Such a one's directory, as create_recording_dir() makes it. `name`: empty = from the date; no path. When
// there is one of this name, a number is added. A guest may have chosen it.
Result<std::filesystem::path> create_later_recording_dir(const std::string& name, i64 now_unix_ns);
// It came to nothing.
void remove_later_recording_dir(const std::filesystem::path& dir);

// One recording that begins after the sandbox was entered, and whose directory is made now; the next
// create_recording_dir() gives it. Prepares for `later` others beside it.
class FutureRecording {
 public:
  static Result<FutureRecording> make(std::string_view name, i64 now_unix_ns, unsigned later = 0);
  FutureRecording(FutureRecording&& o) noexcept : dir_(std::exchange(o.dir_, {})) {}
  FutureRecording& operator=(FutureRecording&&) = delete;
  // Removes the directory if it is empty.
  ~FutureRecording();
  const std::filesystem::path& dir() const { return dir_; }

 private:
  explicit FutureRecording(std::filesystem::path dir) : dir_(std::move(dir)) {}
  std::filesystem::path dir_;
};

// What a user means by REC: a path of a recording or of a packed one (which is unpacked, once), a name in the
// default directory (with or without .deja), or "latest". An absolute, lexically clean path.
Result<std::filesystem::path> resolve_recording(std::string_view rec);

// Points `latest` beside `recording` to it, atomically, once there is something to replay. Only in the
// default directory; elsewhere does nothing. A link that cannot be made is no reason not to record: it is
// logged.
void point_latest_to(const std::filesystem::path& recording);

enum class RecordingState {
  writing,  // a recorder holds it
  ended,    // in order
  killed,   // the recorder died: complete up to its last flush
};
std::string_view to_string(RecordingState state);
// Is a process writing this recording's log?
bool being_written(const std::filesystem::path& recording);

struct RecordingSummary {
  std::filesystem::path path;
  std::string name;  // without .deja
  RecordingState state = RecordingState::killed;
  u64 bytes = 0;                              // of all its files
  std::optional<RecordingManifest> manifest;  // absent: damaged
  std::string problem;                        // what is damaged, as far as a glance shows; else empty
};
// All *.deja in a directory (default: the user's), by creation time, then name.
Result<std::vector<RecordingSummary>> list_recordings(std::optional<std::filesystem::path> dir = {});

// Removes a recording with all its files. Refuses what does not look like one, and one that is being written.
// `latest` is pointed to the newest that is left, or removed.
Status remove_recording(const std::filesystem::path& recording);

// --- Input files -----------------------------------------------------------------------------------------

enum class InputStorage { copy, reference };
// Hashes `path`, and for `copy` stores its bytes as inputs/sha256-<hex> (shared blocks where the file system
// can). The content hashed is the content stored.
Result<RecordedFile> add_input(const std::filesystem::path& recording, std::string role,
                               const std::filesystem::path& path, InputStorage storage);
// The same for content that is in memory already, whatever file or pipe it came from. Only a copy makes sense
// for what came from a pipe.
Result<RecordedFile> add_input(const std::filesystem::path& recording, std::string role,
                               const std::filesystem::path& path, std::span<const u8> content,
                               InputStorage storage);
// A disk image: only referred to, and its hash is left empty when it is not known already.
RecordedFile add_drive(std::string role, const DiskImage& image);

// A manifest is information, never an instruction: the path in it opens nothing but a regular file (of a
// drive also a block device) that turns out to have the recorded size and SHA-256. What is handed on is the
// file that was looked at, open, not its name.
//
// Opens an input where it was stored, or where it was. Its kind and size are right; not yet known: its
// content.
Result<HostFile> open_input(const std::filesystem::path& recording, const RecordedFile& input);
// Is it the recorded one? The SHA-256 of a disk image is taken from the cache of hashes if it is there.
Status check_input(const HostFile& file, const RecordedFile& input);
// Both.
Result<HostFile> find_input(const std::filesystem::path& recording, const RecordedFile& input);
// Reads all of an input that is open and no drive; what was read is what was recorded.
Result<LoadedFile> load_input(const HostFile& file, const RecordedFile& input, u64 limit);
// Gives `to` the stored ones of `inputs`, which `from` has, by hard links where the file system allows it.
Status share_inputs(const std::filesystem::path& from, const std::filesystem::path& to,
                    std::span<const RecordedFile> inputs);
Result<std::string> sha256_of_file(const std::filesystem::path& path);

}  // namespace deja
