#include "eventlog/recording_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <system_error>
#include <tuple>

#include "base/host_limits.h"
#include "base/log.h"
#include "eventlog/packed_recording.h"
#include "eventlog/recording_file.h"
#include "eventlog/small_file.h"
#include "sandbox/helper_process.h"
#include "sandbox/outside_file.h"
#include "sandbox/sandbox.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kLatest = "latest";
constexpr std::size_t kLongestLaterName = 64;

fs::path g_future;  // made by FutureRecording, and not yet asked for

// Where recordings begin after the sandbox was entered.
struct {
  fs::path dir;
  // Makes there what this process may not make any more. Absent: it may.
  std::unique_ptr<HelperProcess> keeper;
  unsigned most = 0, made = 0;
} g_later;

std::string with_suffix(std::string_view name) {
  std::string s(name);
  while (s.size() > 1 && s.ends_with('/')) s.pop_back();
  if (!s.ends_with(kRecordingSuffix)) s += kRecordingSuffix;
  return s;
}

bool path_exists(const fs::path& p) {
  std::error_code ec;
  return fs::exists(fs::symlink_status(p, ec));
}

bool dir_exists(const fs::path& p) {
  std::error_code ec;
  return fs::is_directory(p, ec);
}

// A directory that a recorder made: it has a manifest or a log, or nothing but inputs (killed while
// starting).
bool looks_like_recording(const fs::path& dir) {
  if (!dir_exists(dir) || dir.extension() != kRecordingSuffix) return false;
  if (path_exists(dir / kManifestFile)) return true;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(dir, ec)) {
    const std::string name = entry.path().filename();
    if (is_events_file(name)) return true;
    if (name != kInputsDir) return false;
  }
  return !ec;
}

std::string date_name(i64 unix_ns) {
  const std::time_t t = unix_ns / 1'000'000'000;
  std::tm tm{};
  if (!::localtime_r(&t, &tm)) return "recording";
  return fmt::format("{:04}-{:02}-{:02}-{:02}{:02}{:02}", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                     tm.tm_hour, tm.tm_min, tm.tm_sec);
}

// Private to the user: a recording holds all that was typed.
Status make_private_dir(const fs::path& p) {
  if (::mkdir(p.c_str(), 0700) == 0) return {};
  if (errno == EEXIST)
    return make_error("{}: exists already; choose another name with -o, or remove it with `deja rm`",
                      p.string());
  return make_error("{}: cannot create directory: {}", p.string(), host_error(errno));
}

// 0 or errno.
int make_link(const fs::path& link, const std::string& target) {
  const fs::path temporary = link.string() + fmt::format(".{}", ::getpid());
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) == 0 && ::rename(temporary.c_str(), link.c_str()) == 0)
    return 0;
  const int error = errno;
  ::unlink(temporary.c_str());
  return error;
}

Status point_link(const fs::path& link, const std::string& target) {
  const int error = make_link(link, target);
  return error ? make_error("{}: cannot make a link: {}", link.string(), host_error(error)) : Status();
}

// A name for which `make` does not say that there is one already.
Result<fs::path> first_free(const fs::path& dir, const std::string& base,
                            const std::function<int(const fs::path&)>& make) {
  for (int i = 1;; ++i) {
    const fs::path p = dir / with_suffix(i == 1 ? base : fmt::format("{}-{}", base, i));
    if (path_exists(p)) continue;
    const int error = make(p);
    if (error == 0) return p;
    if (error != EEXIST) return make_error("{}: cannot create directory: {}", p.string(), host_error(error));
  }
}

// --- The process that makes recordings' directories, and the link `latest`. A request is what to do and a
// --- name in the directory; the answer is errno.

enum Request : char { kBegin = 'b', kRemove = 'r', kPointLatest = 'l' };

fs::path hidden_dir(const fs::path& dir, pid_t session, unsigned i) {
  return dir / fmt::format(".session-{}-{}", session, i);
}

// One for a recording that begins when the engine may make no directory any more: it has that for inputs.
Status make_whole_dir(const fs::path& dir) {
  DEJA_TRY(make_private_dir(dir));
  return make_private_dir(dir / kInputsDir);
}

// If nothing is in it.
int remove_unused_dir(const fs::path& dir) {
  ::rmdir((dir / kInputsDir).c_str());
  return ::rmdir(dir.c_str()) == 0 ? 0 : errno;
}

bool is_later_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestLaterName && name != kLatest && name[0] != '.' &&
         name[0] != '-' && std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '.' || c == '-' || c == '_';
         });
}

int answer_request(const fs::path& dir, pid_t session, unsigned next, char what, const std::string& name) {
  if (!name.ends_with(kRecordingSuffix) || name[0] == '.' || name.find('/') != std::string::npos)
    return EINVAL;
  if (what == kPointLatest) return make_link(dir / kLatest, name);
  // If it is empty. A link to it is then one to nowhere, as after `deja rm`.
  if (what == kRemove) return remove_unused_dir(dir / name);
  if (what != kBegin) return EINVAL;
  const fs::path from = hidden_dir(dir, session, next);
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, (dir / name).c_str(), RENAME_NOREPLACE) == 0 ? 0
                                                                                                    : errno;
}

int keep_recordings(int socket, const fs::path& dir, pid_t session, unsigned most) {
  // It goes by the socket alone, so that it can tidy up when the engine was killed.
  ::prctl(PR_SET_PDEATHSIG, 0);
  HelperProcess::confine(Confined::keeper, {.arrange = {dir}});
  unsigned begun = 0;
  while (const std::optional<Message> request = receive_message(socket)) {
    const char what = request->bytes[0];
    const int error = answer_request(dir, session, begun, what, request->bytes.substr(1));
    if (what == kBegin && error == 0) ++begun;
    if (!send_message(socket, {reinterpret_cast<const char*>(&error), sizeof error})) break;
  }
  for (; begun < most; ++begun) remove_unused_dir(hidden_dir(dir, session, begun));
  return 0;
}

int ask_keeper(Request what, const std::string& name) {
  int error = EPIPE;
  if (!send_message(g_later.keeper->socket(), static_cast<char>(what) + name)) return error;
  const std::optional<Message> answer = receive_message(g_later.keeper->socket());
  if (answer && answer->bytes.size() == sizeof error) std::memcpy(&error, answer->bytes.data(), sizeof error);
  return error;
}

}  // namespace

Status prepare_later_recordings(const fs::path& dir, unsigned most) {
  std::error_code ec;
  g_later.dir = fs::absolute(dir, ec).lexically_normal();
  fs::create_directories(g_later.dir, ec);
  if (ec) return make_error("{}: cannot create directory: {}", dir.string(), ec.message());
  g_later.most = most;
  if (!sandbox::enabled()) return {};
  const pid_t session = ::getpid();
  for (unsigned i = 0; i < most; ++i) {
    const fs::path hidden = hidden_dir(g_later.dir, session, i);
    remove_unused_dir(hidden);  // of a session that was killed long ago
    DEJA_TRY(make_whole_dir(hidden));
    // What is allowed is the directory, whatever its name becomes.
    sandbox::allow_write(hidden);
  }
  DEJA_ASSIGN(g_later.keeper, HelperProcess::start("deja-recordings", [&](int socket) {
                return keep_recordings(socket, g_later.dir, session, most);
              }));
  return {};
}

Result<fs::path> create_later_recording_dir(const std::string& name, i64 now_unix_ns) {
  if (g_later.dir.empty()) return make_error("this session has no place for recordings");
  if (!name.empty() && !is_later_name(name))
    return make_error("'{}' is not a name for a recording: up to {} letters, digits, '.', '-' and '_' are",
                      name, kLongestLaterName);
  if (g_later.made == g_later.most)
    return make_error("this session has made {} recordings, which is as many as it can; start another one",
                      g_later.most);
  DEJA_ASSIGN(fs::path dir,
              first_free(g_later.dir, name.empty() ? date_name(now_unix_ns) : name, [](const fs::path& p) {
                if (g_later.keeper) return ask_keeper(kBegin, p.filename());
                return ::mkdir(p.c_str(), 0700) == 0 ? 0 : errno;
              }));
  ++g_later.made;
  return dir;
}

void remove_later_recording_dir(const fs::path& dir) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(dir, ec)) fs::remove_all(entry.path(), ec);
  if (g_later.keeper)
    (void)ask_keeper(kRemove, dir.filename());
  else
    fs::remove(dir, ec);
}

Result<fs::path> default_recordings_dir() {
  // The XDG base directory specification: relative paths in the variable are to be ignored.
  if (const char* xdg = std::getenv("XDG_DATA_HOME"); xdg && xdg[0] == '/') return fs::path(xdg) / "deja";
  if (const char* home = std::getenv("HOME"); home && home[0] == '/')
    return fs::path(home) / ".local/share/deja";
  return make_error(
      "neither XDG_DATA_HOME nor HOME is set; name the recording by a path with a slash (-o ./NAME)");
}

Result<fs::path> create_recording_dir(std::string_view name, i64 now_unix_ns) {
  if (!g_future.empty()) return std::exchange(g_future, {});
  std::error_code ec;
  if (name.find('/') != std::string_view::npos) {
    const fs::path p = fs::absolute(with_suffix(name), ec).lexically_normal();
    if (p.filename() == kRecordingSuffix) return make_error("'{}' is not a name for a recording", name);
    DEJA_TRY(make_private_dir(p));
    return p;
  }
  if (name == kLatest || name == "." || name == ".." || name == kRecordingSuffix)
    return make_error("'{}' cannot be the name of a recording; choose another one", name);
  DEJA_ASSIGN(const fs::path home, default_recordings_dir());
  fs::create_directories(home, ec);
  if (ec) return make_error("{}: cannot create directory: {}", home.string(), ec.message());
  if (!name.empty()) {
    const fs::path p = home / with_suffix(name);
    DEJA_TRY(make_private_dir(p));
    return p;
  }
  return first_free(home, date_name(now_unix_ns),
                    [](const fs::path& p) { return ::mkdir(p.c_str(), 0700) == 0 ? 0 : errno; });
}

Result<fs::path> resolve_recording(std::string_view rec) {
  if (rec.empty()) return make_error("the name of a recording is missing; `deja ls` lists them");
  if (rec.ends_with(kPackedSuffix)) {
    std::error_code packed_ec;
    if (fs::is_regular_file(rec, packed_ec)) return unpacked_copy(rec);
  }
  std::vector<fs::path> candidates;
  const auto home = default_recordings_dir();
  if (rec.find('/') == std::string_view::npos && home.ok()) {
    const fs::path& dir = home.value();
    if (rec == kLatest) candidates.push_back(dir / kLatest);
    candidates.push_back(dir / with_suffix(rec));
  }
  candidates.emplace_back(rec);
  candidates.emplace_back(with_suffix(rec));
  std::error_code ec;
  for (const auto& candidate : candidates) {
    if (!dir_exists(candidate)) continue;
    const fs::path real = fs::canonical(candidate, ec);
    if (!ec && looks_like_recording(real)) return real;
  }
  if (rec == kLatest) return make_error("there is no latest recording yet; make one with `deja record`");
  return make_error("'{}': there is no such recording; `deja ls` lists those in {}", rec,
                    home.ok() ? home.value().string() : "the default directory");
}

Result<FutureRecording> FutureRecording::make(std::string_view name, i64 now_unix_ns, unsigned later) {
  DEJA_ASSIGN(const fs::path dir, create_recording_dir(name, now_unix_ns));
  FutureRecording future(dir);
  DEJA_TRY(make_private_dir(dir / kInputsDir));
  DEJA_TRY(prepare_outside_file(dir));
  DEJA_TRY(prepare_later_recordings(dir.parent_path(), later));
  sandbox::allow_write(dir);
  g_future = dir;
  return future;
}

FutureRecording::~FutureRecording() {
  if (dir_.empty()) return;
  g_future.clear();
  ::rmdir((dir_ / kInputsDir).c_str());  // both if nothing is in them
  remove_outside_file(dir_);
}

void point_latest_to(const fs::path& recording) {
  const auto home = default_recordings_dir();
  std::error_code ec;
  if (!home.ok() || !fs::equivalent(recording.parent_path(), home.value(), ec)) return;
  const fs::path link = home.value() / kLatest;
  Status made;
  if (sandbox::entered() && g_later.keeper) {
    if (const int error = ask_keeper(kPointLatest, recording.filename()))
      made = make_error("{}: cannot make a link: {}", link.string(), host_error(error));
  } else {
    made = point_link(link, recording.filename().string());
  }
  if (!made) log_warn("recording", "{}", made.error().message);
}

std::string_view to_string(RecordingState state) {
  switch (state) {
    case RecordingState::writing:
      return "recording";
    case RecordingState::ended:
      return "ended";
    case RecordingState::killed:
      return "killed";
  }
  return "?";
}

bool being_written(const fs::path& recording) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(recording, ec)) {
    const std::string name = entry.path().filename().string();
    if (!is_events_file(name)) continue;
    auto fd = open_recording_file(recording, name);
    if (!fd) continue;
    const bool locked = ::flock(*fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(*fd);
    if (locked) return true;
  }
  return false;
}

Result<std::vector<RecordingSummary>> list_recordings(std::optional<fs::path> dir) {
  if (!dir) {
    DEJA_ASSIGN(dir, default_recordings_dir());
  }
  std::vector<RecordingSummary> out;
  std::error_code ec;
  if (!fs::exists(*dir, ec)) return out;
  fs::directory_iterator entries(*dir, ec);
  if (ec) return make_error("{}: cannot list: {}", dir->string(), ec.message());
  for (const auto& entry : entries) {
    if (entry.is_symlink(ec) || !looks_like_recording(entry.path())) continue;
    RecordingSummary s;
    s.path = entry.path();
    s.name = entry.path().stem().string();
    const bool writing = being_written(s.path);
    const fs::path manifest_path = s.path / kManifestFile;
    auto text = read_small_file(manifest_path);
    auto manifest = text.ok() ? parse_manifest(text.value(), manifest_path.string()) : text.error();
    if (manifest) {
      s.manifest = std::move(manifest).value();
      // The rest of what may be wrong with a log only reading it shows.
      if (const auto& end = s.manifest->end) {
        const u64 size = fs::file_size(s.path / events_file(*s.manifest), ec);
        if (ec || size != end->log_bytes)
          s.problem = fmt::format("{} has {} bytes, and {} were written", events_file(*s.manifest),
                                  ec ? 0 : size, end->log_bytes);
      }
    } else {
      s.problem = manifest.error().message;
    }
    s.state = s.manifest && s.manifest->end ? RecordingState::ended
              : writing                     ? RecordingState::writing
                                            : RecordingState::killed;
    fs::recursive_directory_iterator files(s.path, ec);
    for (; !ec && files != fs::recursive_directory_iterator(); files.increment(ec)) {
      std::error_code file_ec;
      if (files->symlink_status(file_ec).type() != fs::file_type::regular || file_ec) continue;
      const auto size = files->file_size(file_ec);
      if (!file_ec) s.bytes += size;
    }
    out.push_back(std::move(s));
  }
  const auto key = [](const RecordingSummary& s) {
    return std::tuple(s.manifest ? s.manifest->created_unix_ns : i64{0}, std::string_view(s.name));
  };
  std::sort(out.begin(), out.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  return out;
}

Status remove_recording(const fs::path& recording) {
  std::error_code ec;
  if (fs::is_symlink(recording, ec) || !looks_like_recording(recording)) {
    return make_error("{}: not a recording (a directory NAME.deja with a manifest); nothing was removed",
                      recording.string());
  }
  if (being_written(recording)) {
    return make_error(
        "{}: is being recorded at this moment; end that first (monitor command `quit`). Nothing was removed",
        recording.string());
  }
  fs::remove_all(recording, ec);
  if (ec) return make_error("{}: cannot remove: {}", recording.string(), ec.message());

  const fs::path link = recording.parent_path() / kLatest;
  if (fs::is_symlink(link, ec) && !fs::exists(link, ec)) {
    const auto rest = list_recordings(recording.parent_path());
    if (rest.ok() && !rest.value().empty())
      return point_link(link, rest.value().back().path.filename().string());
    fs::remove(link, ec);
  }
  return {};
}

}  // namespace deja
