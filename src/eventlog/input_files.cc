// The files a machine was built from, kept by content inside the recording.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "base/sha256.h"
#include "disk/image_hash.h"
#include "eventlog/recording_dir.h"
#include "eventlog/recording_file.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

Status open_regular(const fs::path& path, Fd& f) {
  f.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (f.fd < 0) return make_error("{}: cannot open: {}", path.string(), host_error(errno));
  struct stat st {};
  if (::fstat(f.fd, &st) != 0)
    return make_error("{}: cannot look at it: {}", path.string(), host_error(errno));
  if (!S_ISREG(st.st_mode)) return make_error("{}: not a regular file", path.string());
  return {};
}

Status store(int fd, std::string_view bytes, const fs::path& source, const fs::path& target) {
  if (const int error = write_all(fd, bytes))
    return make_error("{}: cannot store a copy of {}: {}; free some space, or record with --no-copy-inputs",
                      target.parent_path().string(), source.string(), host_error(error));
  return {};
}

Result<fs::path> make_inputs_directory(const fs::path& recording) {
  fs::path dir = recording / kInputsDir;
  // In the sandbox there is no making one, and it has been made.
  const int error = ::mkdir(dir.c_str(), 0700) == 0 ? 0 : errno;
  if (std::error_code ec; error && !fs::is_directory(dir, ec))
    return make_error("{}: cannot create directory: {}", dir.string(), host_error(error));
  return dir;
}

// A file for content whose name is not known before all of it has been hashed.
Result<fs::path> create_in_inputs(const fs::path& recording, Fd& out) {
  DEJA_ASSIGN(const fs::path dir, make_inputs_directory(recording));
  const fs::path temporary = dir / "new";
  ::unlink(temporary.c_str());
  out.fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
  if (out.fd < 0) return make_error("{}: cannot create: {}", temporary.string(), host_error(errno));
  return temporary;
}

// Gives it its name.
Status keep(const fs::path& temporary, RecordedFile& file) {
  file.stored = "sha256-" + file.sha256;
  if (::rename(temporary.c_str(), (temporary.parent_path() / file.stored).c_str()) != 0)
    return make_error("{}: cannot rename: {}", temporary.string(), host_error(errno));
  return {};
}

// Hashes all of `in` from its current position; copies it to `out` unless that is -1.
struct Hashed {
  std::string sha256;
  u64 size = 0;
};
Result<Hashed> hash_and_copy(int in, const fs::path& path, int out, const fs::path& out_path) {
  Sha256 sha;
  Hashed h;
  std::vector<char> buffer(1_MiB);
  while (true) {
    const ssize_t n = ::read(in, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return make_error("{}: byte {}: cannot read: {}", path.string(), h.size, host_error(errno));
    if (n == 0) break;
    sha.update(buffer.data(), static_cast<std::size_t>(n));
    h.size += static_cast<u64>(n);
    if (out >= 0) DEJA_TRY(store(out, {buffer.data(), static_cast<std::size_t>(n)}, path, out_path));
  }
  h.sha256 = sha.hex();
  return h;
}

// The same for a file from its beginning, wherever its descriptor's position is.
Result<Hashed> hash_from_start(const HostFile& file, int out = -1, const fs::path& out_path = {}) {
  Sha256 sha;
  Hashed h;
  std::vector<u8> piece(1_MiB);
  for (; h.size < file.size(); h.size += piece.size()) {
    piece.resize(std::min<u64>(1_MiB, file.size() - h.size));
    DEJA_TRY(file.read(h.size, piece));
    sha.update(piece.data(), piece.size());
    if (out >= 0)
      DEJA_TRY(
          store(out, {reinterpret_cast<const char*>(piece.data()), piece.size()}, file.path(), out_path));
  }
  h.sha256 = sha.hex();
  return h;
}

}  // namespace

Result<std::string> sha256_of_file(const fs::path& path) {
  Fd in;
  DEJA_TRY(open_regular(path, in));
  DEJA_ASSIGN(const Hashed h, hash_and_copy(in.fd, path, -1, {}));
  return h.sha256;
}

Result<RecordedFile> add_input(const fs::path& recording, std::string role, const fs::path& path,
                               InputStorage storage) {
  Fd in;
  DEJA_TRY(open_regular(path, in));
  std::error_code ec;
  RecordedFile file;
  file.role = std::move(role);
  file.original_path = fs::absolute(path, ec).lexically_normal().string();
  if (storage == InputStorage::reference) {
    DEJA_ASSIGN(const Hashed h, hash_and_copy(in.fd, path, -1, {}));
    file.sha256 = h.sha256;
    file.size = h.size;
    return file;
  }

  Fd out;
  DEJA_ASSIGN(const fs::path temporary, create_in_inputs(recording, out));
  // Where the file system can share blocks, the copy costs nothing; what is hashed is the copy all the same.
  const bool cloned = ::ioctl(out.fd, FICLONE, in.fd) == 0;
  auto hashed =
      cloned ? hash_and_copy(out.fd, temporary, -1, {}) : hash_and_copy(in.fd, path, out.fd, temporary);
  if (!hashed) {
    ::unlink(temporary.c_str());
    return hashed.error();
  }
  file.sha256 = hashed->sha256;
  file.size = hashed->size;
  DEJA_TRY(keep(temporary, file));
  return file;
}

Result<RecordedFile> add_input(const fs::path& recording, std::string role, const fs::path& path,
                               std::span<const u8> content, InputStorage storage) {
  std::error_code ec;
  RecordedFile file;
  file.role = std::move(role);
  file.original_path = fs::absolute(path, ec).lexically_normal().string();
  Sha256 sha;
  sha.update(content.data(), content.size());
  file.sha256 = sha.hex();
  file.size = content.size();
  if (storage == InputStorage::reference) return file;
  Fd out;
  DEJA_ASSIGN(const fs::path temporary, create_in_inputs(recording, out));
  if (Status s =
          store(out.fd, {reinterpret_cast<const char*>(content.data()), content.size()}, path, temporary);
      !s) {
    ::unlink(temporary.c_str());
    return s.error();
  }
  DEJA_TRY(keep(temporary, file));
  return file;
}

RecordedFile add_drive(std::string role, const DiskImage& image) {
  RecordedFile file;
  file.role = std::move(role);
  std::error_code ec;
  file.original_path = fs::absolute(image.path, ec).lexically_normal().string();
  file.size = image.file_size;
  file.identity = image.identity;
  file.sha256 = cached_image_sha256(image.identity).value_or("");
  if (file.sha256.empty()) note_named_image(image.identity);
  return file;
}

// --- What a manifest says is there, found again. Where an input was is for people, and a place to look: what
// makes
// --- a file the one that was recorded is its content.

namespace {

// One that is in the recording.
Result<HostFile> open_stored(const fs::path& recording, const RecordedFile& input, const std::string& name) {
  const std::string path = fmt::format("{}/{}", kInputsDir, name);
  DEJA_ASSIGN(const int fd, open_recording_file(recording, path));
  return HostFile::adopt((recording / path).string(), fd, input.role);
}

// A disk image is never copied by a recorder; one that was packed with the recording goes before.
bool is_packed(const fs::path& recording, const RecordedFile& drive) {
  return !drive.sha256.empty() &&
         recording_file_exists(recording, fmt::format("{}/sha256-{}", kInputsDir, drive.sha256));
}

Error missing(const RecordedFile& input, const Error& why) {
  if (!input.identity.empty())
    return make_error("{} of this recording is missing: {}. Put the same file there again", input.role,
                      why.message);
  return make_error(
      "the {} of this recording is missing: {}{}", input.role, why.message,
      input.stored.empty() ? " (recorded with --no-copy-inputs: put the same file there again)" : "");
}

Error another(const std::string& path, const RecordedFile& input, const std::string& is,
              const std::string& was) {
  // What stands in the recording under its own digest cannot be another file.
  if (fs::path(path).filename() == "sha256-" + input.sha256)
    return make_error(
        "{}: is damaged, it is not the {} that was recorded: {}, recorded was {}. Restore it from a copy, or "
        "unpack the recording again",
        path, input.role, is, was);
  if (!input.identity.empty())
    return make_error(
        "disk image '{}': is not the one that was recorded: {}, recorded was {}. Put the original file there "
        "again",
        path, is, was);
  return make_error(
      "{}: is not the {} that was recorded: {}, recorded was {}. Put the original file there again", path,
      input.role, is, was);
}

Error another_size(const std::string& path, const RecordedFile& input, u64 size) {
  return another(path, input, fmt::format("it has {} bytes", size), fmt::format("{}", input.size));
}

// Before it is read: a large file of another size need not be hashed. Without a SHA-256 the identity says it.
bool is_of_another_size(const RecordedFile& input, u64 size) {
  return size != input.size && !input.sha256.empty();
}

std::string what_is(const RecordedFile& input) { return input.identity.empty() ? input.role : "disk image"; }

Error cannot_open(const RecordedFile& input, std::string_view why) {
  return missing(input, make_error("{} '{}': {}", what_is(input), input.original_path, why));
}

// Opens for reading what `found` is, an O_PATH descriptor: its path may lead to something else by now.
Result<int> open_found(const Fd& found, const struct stat& was, const RecordedFile& input) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  Fd file{::open(fmt::format("/proc/self/fd/{}", found.fd).c_str(), kFlags)};
  if (file.fd < 0 && errno == ENOENT) file.fd = ::open(input.original_path.c_str(), kFlags);  // no /proc
  struct stat is {};
  if (file.fd < 0 || ::fstat(file.fd, &is) != 0) return cannot_open(input, host_error(errno));
  if (is.st_dev != was.st_dev || is.st_ino != was.st_ino)
    return cannot_open(input, "was replaced while it was opened");
  return file.release();
}

// Opens what a manifest names outside of the recording. Only what can be the recorded file by its kind and
// its size is opened for reading: to open some devices is to use them. Before the sandbox is entered, in
// which there is no O_PATH.
Result<HostFile> open_outside(const RecordedFile& input) {
  const std::string& path = input.original_path;
  const Fd found{::open(path.c_str(), O_PATH | O_CLOEXEC)};
  struct stat st {};
  if (found.fd < 0 || ::fstat(found.fd, &st) != 0) return cannot_open(input, host_error(errno));
  const bool regular = S_ISREG(st.st_mode);
  if (!regular && (input.identity.empty() || !S_ISBLK(st.st_mode)))
    return cannot_open(input, "is not a regular file");
  if (const u64 size = static_cast<u64>(st.st_size); regular && is_of_another_size(input, size))
    return another_size(path, input, size);
  DEJA_ASSIGN(const int fd, open_found(found, st, input));
  return HostFile::adopt(path, fd, what_is(input));
}

// An image whose SHA-256 the recorder was not given the time to find. The file system says that it has not
// changed. A note in the cache of hashes says that it is what the user named when it was recorded, and not
// another file of the user's whose dates somebody has read.
Status check_unhashed_drive(const HostFile& file, const RecordedFile& drive) {
  DEJA_ASSIGN(const std::string identity, file.identity());
  if (identity != drive.identity)
    return make_error(
        "disk image '{}': has been changed or replaced since it was recorded, and the recorder was ended "
        "before it "
        "knew its SHA-256. Put the original file there again, by renaming, not by copying",
        file.path());
  if (is_named_image(identity)) return {};
  return make_error(
      "disk image '{}': nothing shows that it is what was recorded: the recorder was ended before it knew "
      "its "
      "SHA-256, and you have not recorded with this image here (or the notes of that are gone, in {})",
      file.path(), image_hash_cache().string());
}

}  // namespace

Result<HostFile> open_input(const fs::path& recording, const RecordedFile& input) {
  const bool packed = !input.identity.empty() && is_packed(recording, input);
  const bool outside = !packed && input.stored.empty();
  Result<HostFile> file = outside  ? open_outside(input)
                          : packed ? open_stored(recording, input, "sha256-" + input.sha256)
                                   : open_stored(recording, input, input.stored);
  if (!file) return outside ? file.error() : missing(input, file.error());
  if (is_of_another_size(input, file->size())) return another_size(file->path(), input, file->size());
  return file;
}

Status check_input(const HostFile& file, const RecordedFile& input) {
  if (!input.identity.empty() && input.sha256.empty()) return check_unhashed_drive(file, input);
  std::string sha256;
  if (!input.identity.empty()) {
    DEJA_ASSIGN(sha256, image_sha256(file));
  } else {
    DEJA_ASSIGN(const Hashed h, hash_from_start(file));
    sha256 = h.sha256;
  }
  if (sha256 != input.sha256) return another(file.path(), input, "its SHA-256 is " + sha256, input.sha256);
  return {};
}

Result<HostFile> find_input(const fs::path& recording, const RecordedFile& input) {
  DEJA_ASSIGN(HostFile file, open_input(recording, input));
  DEJA_TRY(check_input(file, input));
  return file;
}

Result<LoadedFile> load_input(const HostFile& file, const RecordedFile& input, u64 limit) {
  if (file.size() > limit)
    return make_error("{} '{}' is too large: more than {} bytes ({} MiB)", input.role, file.path(), limit,
                      limit >> 20);
  LoadedFile out;
  out.path = file.path();
  out.bytes.resize(file.size());
  DEJA_TRY(file.read(0, out.bytes));
  out.sha256 = sha256_hex(out.bytes);
  if (out.sha256 != input.sha256)
    return another(file.path(), input, "its SHA-256 is " + out.sha256, input.sha256);
  return out;
}

namespace {

// Makes `target` of an input that is open: another name of the same file where the file system allows it.
Status share(const HostFile& source, const fs::path& target, const RecordedFile& input) {
  const std::string open_file = fmt::format("/proc/self/fd/{}", source.fd());
  if (::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, target.c_str(), AT_SYMLINK_FOLLOW) == 0) return {};
  const Fd out{::open(target.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0400)};
  if (out.fd < 0) return make_error("{}: cannot create: {}", target.string(), host_error(errno));
  if (::ioctl(out.fd, FICLONE, source.fd()) == 0) return {};
  DEJA_ASSIGN(const Hashed copied, hash_from_start(source, out.fd, target));
  return copied.sha256 == input.sha256
             ? Status()
             : make_error("{} '{}': was changed while it was copied", input.role, source.path());
}

}  // namespace

Status share_inputs(const fs::path& from, const fs::path& to, std::span<const RecordedFile> inputs) {
  for (const RecordedFile& input : inputs) {
    if (input.stored.empty()) continue;
    DEJA_ASSIGN(const HostFile source, find_input(from, input));
    DEJA_ASSIGN(const fs::path dir, make_inputs_directory(to));
    // Two inputs may have the same content.
    if (!recording_file_exists(dir, input.stored)) DEJA_TRY(share(source, dir / input.stored, input));
  }
  return {};
}

}  // namespace deja
