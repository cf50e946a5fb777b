#include "eventlog/recording_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <system_error>
#include <tuple>

#include "eventlog/packed_recording.h"
#include "eventlog/small_file.h"
#include "sandbox/helper_process.h"
#include "sandbox/outside_file.h"
#include "sandbox/sandbox.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kLatest = "latest";
constexpr std::string_view kDone = "done";

fs::path g_future;                        // made by FutureRecording, and not yet asked for
std::unique_ptr<HelperProcess> g_latest;  // points the link to a recording that begins in the sandbox

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
  return make_error("{}: cannot create directory: {}", p.string(), std::strerror(errno));
}

Status point_link(const fs::path& link, const std::string& target) {
  const fs::path temporary = link.string() + fmt::format(".{}", ::getpid());
  ::unlink(temporary.c_str());
  if (::symlink(target.c_str(), temporary.c_str()) != 0 || ::rename(temporary.c_str(), link.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return make_error("{}: cannot make a link: {}", link.string(), std::strerror(error));
  }
  return {};
}

}  // namespace

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
  const std::string base = date_name(now_unix_ns);
  for (int i = 1;; ++i) {
    const fs::path p = home / with_suffix(i == 1 ? base : fmt::format("{}-{}", base, i));
    if (i < 100 && path_exists(p)) continue;
    DEJA_TRY(make_private_dir(p));
    return p;
  }
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

Result<FutureRecording> FutureRecording::make(std::string_view name, i64 now_unix_ns) {
  DEJA_ASSIGN(const fs::path dir, create_recording_dir(name, now_unix_ns));
  FutureRecording future(dir);
  DEJA_TRY(prepare_outside_file(dir));
  if (sandbox::enabled()) {
    DEJA_ASSIGN(g_latest, HelperProcess::start("deja-latest", [&](int socket) {
                  HelperProcess::confine(Confined::keeper, {{}, {dir.parent_path()}});
                  if (!receive_message(socket)) return 0;
                  const Status status = point_latest_to(dir);
                  return send_message(socket, status ? kDone : status.error().message) ? 0 : 1;
                }));
  }
  sandbox::allow_write(dir);
  g_future = dir;
  return future;
}

FutureRecording::~FutureRecording() {
  if (dir_.empty()) return;
  g_future.clear();
  remove_outside_file(dir_);
}

Status point_latest_to(const fs::path& recording) {
  if (sandbox::entered() && g_latest) {
    std::optional<Message> answer;
    if (send_message(g_latest->socket(), kDone)) answer = receive_message(g_latest->socket());
    if (answer && answer->bytes == kDone) return {};
    return make_error("{}", answer ? answer->bytes : "the process that makes the link `latest` has ended");
  }
  const auto home = default_recordings_dir();
  std::error_code ec;
  if (!home.ok() || !fs::equivalent(recording.parent_path(), home.value(), ec)) return {};
  return point_link(home.value() / kLatest, recording.filename().string());
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
    if (!is_events_file(entry.path().filename().string())) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    const bool locked = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(fd);
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
    } else {
      s.problem = manifest.error().message;
    }
    s.state = s.manifest && s.manifest->end ? RecordingState::ended
              : writing                     ? RecordingState::writing
                                            : RecordingState::killed;
    fs::recursive_directory_iterator files(s.path, ec);
    for (; !ec && files != fs::recursive_directory_iterator(); files.increment(ec)) {
      std::error_code file_ec;
      if (!files->is_regular_file(file_ec) || file_ec) continue;
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
