// The files a machine was built from, kept by content inside the recording.
#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "disk/image_hash.h"
#include "eventlog/recording_dir.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

struct Fd {
  int fd = -1;
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    DEJA_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void update(const void* data, std::size_t size) {
    DEJA_CHECK(EVP_DigestUpdate(context_.get(), data, size) == 1);
  }
  std::string hex() {
    u8 digest[32];
    DEJA_CHECK(EVP_DigestFinal_ex(context_.get(), digest, nullptr) == 1);
    std::string out;
    for (const u8 b : digest) out += fmt::format("{:02x}", b);
    return out;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

Status open_regular(const fs::path& path, Fd& f) {
  f.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (f.fd < 0) return make_error("{}: cannot open: {}", path.string(), std::strerror(errno));
  struct stat st {};
  if (::fstat(f.fd, &st) != 0)
    return make_error("{}: cannot look at it: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(st.st_mode)) return make_error("{}: not a regular file", path.string());
  return {};
}

Status write_all(int fd, const void* data, std::size_t size, const fs::path& source, const fs::path& target) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return make_error("{}: cannot store a copy of {}: {}; free some space, or record with --no-copy-inputs",
                        target.parent_path().string(), source.string(), std::strerror(errno));
    }
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

// A file for content whose name is not known before all of it has been hashed.
Result<fs::path> create_in_inputs(const fs::path& recording, Fd& out) {
  const fs::path dir = recording / kInputsDir;
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST)
    return make_error("{}: cannot create directory: {}", dir.string(), std::strerror(errno));
  const fs::path temporary = dir / "new";
  out.fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0400);
  if (out.fd < 0) return make_error("{}: cannot create: {}", temporary.string(), std::strerror(errno));
  return temporary;
}

// Gives it its name.
Status keep(const fs::path& temporary, RecordedFile& file) {
  file.stored = "sha256-" + file.sha256;
  if (::rename(temporary.c_str(), (temporary.parent_path() / file.stored).c_str()) != 0)
    return make_error("{}: cannot rename: {}", temporary.string(), std::strerror(errno));
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
    if (n < 0) return make_error("{}: byte {}: cannot read: {}", path.string(), h.size, std::strerror(errno));
    if (n == 0) break;
    sha.update(buffer.data(), static_cast<std::size_t>(n));
    h.size += static_cast<u64>(n);
    if (out >= 0) DEJA_TRY(write_all(out, buffer.data(), static_cast<std::size_t>(n), path, out_path));
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
  if (Status s = write_all(out.fd, content.data(), content.size(), path, temporary); !s) {
    ::unlink(temporary.c_str());
    return s.error();
  }
  DEJA_TRY(keep(temporary, file));
  return file;
}

namespace {

// Disk images are large and never copied: hashed once, and known by what the file system says from then on.
Result<fs::path> find_drive(const fs::path& recording, const RecordedFile& input) {
  // One that was packed with the recording.
  const fs::path own = recording / kInputsDir / ("sha256-" + input.sha256);
  std::error_code ec;
  if (!input.sha256.empty() && fs::exists(own, ec)) {
    DEJA_ASSIGN(const HostFile image, HostFile::open(own.string()));
    DEJA_ASSIGN(const std::string sha256, image_sha256(image));
    if (sha256 == input.sha256) return own;
    return make_error("{}: is damaged: its SHA-256 is {}. Unpack the recording again", own.string(), sha256);
  }
  auto file = HostFile::open(input.original_path);
  if (!file)
    return make_error("{} of this recording is missing: {}. Put the same file there again", input.role,
                      file.error().message);
  DEJA_ASSIGN(const std::string identity, file->identity());
  if (input.sha256.empty()) {
    if (identity == input.identity) return fs::path(input.original_path);
    return make_error(
        "disk image '{}': has been changed or replaced since it was recorded, and the recorder was ended "
        "before it "
        "knew its SHA-256. Put the original file there again, by renaming, not by copying",
        input.original_path);
  }
  DEJA_ASSIGN(const std::string sha256, image_sha256(*file));
  if (sha256 != input.sha256)
    return make_error(
        "disk image '{}': is not the one that was recorded: its SHA-256 is {}, recorded was {}. Put the "
        "original "
        "file there again",
        input.original_path, sha256, input.sha256);
  return fs::path(input.original_path);
}

}  // namespace

RecordedFile add_drive(std::string role, const DiskImage& image) {
  RecordedFile file;
  file.role = std::move(role);
  std::error_code ec;
  file.original_path = fs::absolute(image.path, ec).lexically_normal().string();
  file.size = image.file_size;
  file.identity = image.identity;
  file.sha256 = cached_image_sha256(image.identity).value_or("");
  return file;
}

Result<fs::path> find_input(const fs::path& recording, const RecordedFile& input) {
  if (!input.identity.empty()) return find_drive(recording, input);
  const fs::path path =
      input.stored.empty() ? fs::path(input.original_path) : recording / kInputsDir / input.stored;
  Fd in;
  if (Status s = open_regular(path, in); !s) {
    return make_error(
        "the {} of this recording is missing: {}{}", input.role, s.error().message,
        input.stored.empty() ? " (recorded with --no-copy-inputs: put the same file there again)" : "");
  }
  DEJA_ASSIGN(const Hashed h, hash_and_copy(in.fd, path, -1, {}));
  if (h.size != input.size || h.sha256 != input.sha256) {
    return make_error(
        "{}: is not the {} that was recorded: {} bytes with SHA-256 {}, recorded were {} bytes with SHA-256 "
        "{}. "
        "Put the original file there again",
        path.string(), input.role, h.size, h.sha256, input.size, input.sha256);
  }
  return path;
}

Status share_inputs(const fs::path& from, const fs::path& to, std::span<const RecordedFile> inputs) {
  for (const RecordedFile& input : inputs) {
    if (input.stored.empty()) continue;
    DEJA_ASSIGN(const fs::path source, find_input(from, input));
    std::error_code ec;
    fs::create_directories(to / kInputsDir, ec);
    const fs::path target = to / kInputsDir / input.stored;
    if (fs::exists(target, ec)) continue;  // two inputs of the same content
    fs::create_hard_link(source, target, ec);
    if (ec) fs::copy_file(source, target, ec);
    if (ec) return make_error("{}: cannot copy to {}: {}", source.string(), target.string(), ec.message());
  }
  return {};
}

}  // namespace deja
