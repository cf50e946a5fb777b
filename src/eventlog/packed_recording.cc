#include "eventlog/packed_recording.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "base/sha256.h"
#include "disk/host_file.h"
#include "eventlog/recording.h"
#include "eventlog/recording_file.h"
#include "eventlog/small_file.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

constexpr int kLevel = 3;
constexpr std::size_t kBlock = 512;  // of tar
constexpr std::size_t kPiece = 1 << 20;
constexpr u64 kMostBytes = u64{1} << 40;  // of one file
// Log and checkpoints are compressed in themselves, so an archive of them is hardly smaller: what they unpack
// to is at most this, and as many times the bytes read of the archive.
constexpr u64 kMostOutOfNothing = 64_MiB, kMostTimes = 100;
constexpr std::string_view kUnpackedDir = "unpacked";
constexpr std::string_view kStoredPrefix = "inputs/sha256-";

// The only names that are written or taken.
bool is_ours(std::string_view name) {
  if (name == kManifestFile || is_events_file(name) || is_checkpoints_file(name)) return true;
  if (!name.starts_with(kStoredPrefix)) return false;
  name.remove_prefix(kStoredPrefix.size());
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == name.npos;
}

struct File {
  std::string path;
  int fd = -1;
  File(const fs::path& p, int flags) : path(p.string()), fd(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  File(const File&) = delete;

  Error failed(const char* what) const {
    return make_error("{}: cannot {}: {}", path, what, host_error(errno));
  }
  Status write(const char* data, std::size_t size) {
    if (const int error = write_all(fd, {data, size})) {
      errno = error;
      return failed("write");
    }
    return {};
  }
  Result<std::size_t> read(char* data, std::size_t size) {
    while (true) {
      const ssize_t n = ::read(fd, data, size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("read");
      return static_cast<std::size_t>(n);
    }
  }
};

// Compressed on its way to a file.
class PackedOutput {
 public:
  explicit PackedOutput(File& file)
      : file_(file), stream_(ZSTD_createCCtx(), ZSTD_freeCCtx), out_(ZSTD_CStreamOutSize()) {
    ZSTD_CCtx_setParameter(stream_.get(), ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(stream_.get(), ZSTD_c_checksumFlag, 1);
  }
  Status write(std::string_view bytes, bool last = false) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    while (true) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left =
          ZSTD_compressStream2(stream_.get(), &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      DEJA_CHECK(!ZSTD_isError(left), "{}", ZSTD_getErrorName(left));
      DEJA_TRY(file_.write(out_.data(), out.pos));
      if (last ? left == 0 : in.pos == in.size) return {};
    }
  }

 private:
  File& file_;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> stream_;
  std::vector<char> out_;
};

class PackedInput {
 public:
  explicit PackedInput(File& file)
      : file_(file), stream_(ZSTD_createDCtx(), ZSTD_freeDCtx), in_(ZSTD_DStreamInSize()) {}
  // Exactly `size` bytes, or an error.
  Status read(char* to, std::size_t size) {
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos < out.size) DEJA_TRY(step(&out));
    return {};
  }
  // To the end, where the checksum of all is.
  Status finish() {
    char rest[kBlock];
    while (left_) {
      ZSTD_outBuffer out{rest, sizeof rest, 0};
      DEJA_TRY(step(&out));
    }
    return {};
  }
  // Bytes of the file so far.
  u64 taken() const { return taken_; }

 private:
  File& file_;
  u64 taken_ = 0;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> stream_;
  std::vector<char> in_;
  Status step(ZSTD_outBuffer* out) {
    if (feed_.pos == feed_.size) {
      DEJA_ASSIGN(const std::size_t n, file_.read(in_.data(), in_.size()));
      if (n == 0) return make_error("{}: is cut off; copy it again", file_.path);
      feed_ = {in_.data(), n, 0};
      taken_ += n;
    }
    left_ = ZSTD_decompressStream(stream_.get(), out, &feed_);
    if (ZSTD_isError(left_))
      return make_error("{}: is damaged, or not a packed recording ({}); copy it again", file_.path,
                        ZSTD_getErrorName(left_));
    return {};
  }

  ZSTD_inBuffer feed_{nullptr, 0, 0};
  std::size_t left_ = 1;  // of the frame, as far as is known; 0: it has ended
};

// POSIX ustar. Sizes beyond 8 GiB are in base 256, as GNU tar has them.
struct TarHeader {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
      version[2], user[32], group[32], device_major[8], device_minor[8], prefix[155], pad[12];
};
static_assert(sizeof(TarHeader) == kBlock);

unsigned tar_checksum(TarHeader h) {
  std::memset(h.checksum, ' ', sizeof h.checksum);
  unsigned sum = 0;
  for (const unsigned char c : std::string_view(reinterpret_cast<const char*>(&h), sizeof h)) sum += c;
  return sum;
}

TarHeader tar_header(std::string_view name, u64 size) {
  TarHeader h{};
  std::memcpy(h.name, name.data(), name.size());
  const auto octal = [](char* to, std::size_t digits, u64 value) {
    fmt::format_to_n(to, digits, "{:0{}o}", value, digits);
  };
  octal(h.mode, 7, 0600);
  octal(h.uid, 7, 0);
  octal(h.gid, 7, 0);
  octal(h.mtime, 11, 0);
  if (size < u64{1} << 33) {
    octal(h.size, 11, size);
  } else {
    h.size[0] = static_cast<char>(0x80);
    for (int i = 11; i > 3; --i, size >>= 8) h.size[i] = static_cast<char>(size & 0xff);
  }
  h.type = '0';
  std::memcpy(h.magic, "ustar", 6);
  std::memcpy(h.version, "00", 2);
  octal(h.checksum, 6, tar_checksum(h));
  h.checksum[7] = ' ';
  return h;
}

Result<u64> tar_size(const TarHeader& h) {
  u64 size = 0;
  if (h.size[0] & 0x80) {
    for (int i = 4; i < 12; ++i) size = size << 8 | static_cast<unsigned char>(h.size[i]);
  } else {
    for (const char c : std::string_view(h.size, 11)) {
      if (c < '0' || c > '7') return make_error("a size in it is no number");
      size = size * 8 + static_cast<u64>(c - '0');
    }
  }
  if (size > kMostBytes) return make_error("a file in it is larger than any recording");
  return size;
}

u64 padding(u64 size) { return (kBlock - size % kBlock) % kBlock; }

// A file or directory that is removed unless it was kept.
class Unfinished {
 public:
  explicit Unfinished(fs::path path) : path_(std::move(path)) {}
  ~Unfinished() {
    std::error_code ec;
    if (!path_.empty()) fs::remove_all(path_, ec);
  }
  const fs::path& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  fs::path path_;
};

// Renames unless there is something already; errno tells.
bool move_to_new(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  // Not every file system can; a directory replaces nothing but an empty one.
  return errno == EINVAL && ::rename(from.c_str(), to.c_str()) == 0;
}

// A file in an archive.
struct Member {
  std::string name;
  u64 size = 0;
};

// One archive on its way into a directory. It begins with the manifest, which says what else is in it.
class Unpacking {
 public:
  Unpacking(File& in, fs::path dir) : path_(in.path), dir_(std::move(dir)), packed_(in), piece_(kPiece) {}

  Status run() {
    DEJA_ASSIGN(const std::optional<Member> first, next());
    if (!first || first->name != kManifestFile)
      return make_error("{}: does not begin with {}, so it is no packed recording", path_, kManifestFile);
    DEJA_ASSIGN(const RecordingManifest manifest, take_manifest(first->size));
    while (true) {
      DEJA_ASSIGN(const std::optional<Member> member, next());
      if (!member) return packed_.finish();
      DEJA_TRY(check(*member, manifest));
      DEJA_TRY(take(*member));
    }
  }

 private:
  // Nothing: the block of zeros at the end.
  Result<std::optional<Member>> next() {
    TarHeader h;
    DEJA_TRY(packed_.read(reinterpret_cast<char*>(&h), sizeof h));
    if (h.name[0] == 0) return std::optional<Member>();
    const std::string name(h.name, ::strnlen(h.name, sizeof h.name));
    auto size = tar_size(h);
    if (!size) return make_error("{}: {}", path_, size.error().message);
    if (std::memcmp(h.magic, "ustar", 5) != 0 || h.type != '0' || !is_ours(name))
      return make_error("{}: holds '{}', which is no part of a recording", path_,
                        fmt::format("{:.100}", name));
    return std::optional(Member{name, *size});
  }

  Result<RecordingManifest> take_manifest(u64 size) {
    if (size > kMaxSmallFile)
      return make_error("{}: {} in it is larger than {} MiB", path_, kManifestFile, kMaxSmallFile >> 20);
    std::string text(size, '\0');
    DEJA_TRY(packed_.read(text.data(), size));
    DEJA_TRY(packed_.read(piece_.data(), padding(size)));
    DEJA_ASSIGN(RecordingManifest manifest,
                parse_manifest(text, fmt::format("{}: {}", path_, kManifestFile)));
    File out(dir_ / kManifestFile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (out.fd < 0) return out.failed("create");
    DEJA_TRY(out.write(text.data(), size));
    return manifest;
  }

  Status check(const Member& member, const RecordingManifest& manifest) const {
    if (member.name == events_file(manifest) || member.name == checkpoints_file(manifest)) return {};
    for (const RecordedFile& input : manifest.inputs) {
      if (member.name != fmt::format("{}{}", kStoredPrefix, input.sha256)) continue;
      if (member.size == input.size) return {};
      return make_error("{}: holds {} bytes as {}, and its manifest says {}; get the file again", path_,
                        member.size, member.name, input.size);
    }
    return make_error("{}: holds '{}', which its manifest does not name; get the file again", path_,
                      member.name);
  }

  Status take(const Member& member) {
    const bool input = member.name.starts_with(kStoredPrefix);
    File out(dir_ / member.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
    if (out.fd < 0) return out.failed("create");
    Sha256 sha;
    for (u64 left = member.size; left;) {
      const std::size_t n = std::min<u64>(left, piece_.size());
      DEJA_TRY(packed_.read(piece_.data(), n));
      if (!input) DEJA_TRY(count(member, n));
      sha.update(piece_.data(), n);
      DEJA_TRY(write(out, n));
      left -= n;
    }
    if (::ftruncate(out.fd, static_cast<off_t>(member.size)) != 0) return out.failed("write");
    if (input && !member.name.ends_with(sha.hex()))
      return make_error("{}: the content of {} is not what its name says; get the file again", path_,
                        member.name);
    return packed_.read(piece_.data(), padding(member.size));
  }

  // A bound for members whose size the manifest does not give.
  Status count(const Member& member, std::size_t size) {
    unpacked_ += size;
    if (unpacked_ <= kMostOutOfNothing + kMostTimes * packed_.taken()) return {};
    return make_error(
        "{}: {} unpacks to more than {} times what the archive holds, which no recording does; get the file "
        "again",
        path_, member.name, kMostTimes);
  }

  // The beginning of piece_. Disk images are mostly holes.
  Status write(File& out, std::size_t n) {
    const auto end = piece_.begin() + static_cast<std::ptrdiff_t>(n);
    if (!std::all_of(piece_.begin(), end, [](char c) { return c == 0; })) return out.write(piece_.data(), n);
    if (::lseek(out.fd, static_cast<off_t>(n), SEEK_CUR) < 0) return out.failed("write");
    return {};
  }

  const std::string& path_;
  fs::path dir_;
  PackedInput packed_;
  std::vector<char> piece_;
  u64 unpacked_ = 0;
};

Status unpack_into(const fs::path& file, const fs::path& dir) {
  File in(file, O_RDONLY);
  if (in.fd < 0) return in.failed("open");
  return Unpacking(in, dir).run();
}

}  // namespace

namespace {

// A file of a recording on its way into an archive, open since it was checked.
struct Part {
  std::string name;
  HostFile file;
};

Result<Part> part_of(const fs::path& recording, const std::string& name) {
  DEJA_ASSIGN(const int fd, open_recording_file(recording, name));
  DEJA_ASSIGN(HostFile file, HostFile::adopt((recording / name).string(), fd, "recording"));
  return Part{name, std::move(file)};
}

// Where an input is in an archive; nothing: it is not to be packed.
Result<std::optional<std::string>> name_in_archive(const Recording& recording, const RecordedFile& input,
                                                   PackImages images) {
  const bool is_drive = !input.identity.empty();
  if (is_drive && images == PackImages::without) return std::optional<std::string>();
  if (is_drive && input.sha256.empty())
    return make_error("{}: its recorder was ended before it knew the SHA-256 of {}; use --without-base",
                      recording.dir.string(), input.original_path);
  if (!is_drive && input.stored.empty())
    return make_error("{}: needs {} ({}), which is not in it: it was recorded without copies of its inputs",
                      recording.dir.string(), input.original_path, input.role);
  return std::optional(fmt::format("{}{}", kStoredPrefix, input.sha256));
}

Result<std::vector<Part>> parts_of(const Recording& recording, PackImages images) {
  std::vector<Part> parts;
  const auto add = [&](Result<Part> part) -> Status {
    if (!part) return part.error();
    parts.push_back(std::move(part).value());
    return {};
  };
  DEJA_TRY(add(part_of(recording.dir, std::string(kManifestFile))));
  DEJA_TRY(add(part_of(recording.dir, events_file(recording.manifest))));
  for (const RecordedFile& input : recording.manifest.inputs) {
    DEJA_ASSIGN(const std::optional<std::string> name, name_in_archive(recording, input, images));
    const auto is_it = [&](const Part& part) { return part.name == *name; };
    // Two inputs may have the same content.
    if (!name || std::any_of(parts.begin(), parts.end(), is_it)) continue;
    DEJA_ASSIGN(HostFile file, find_input(recording.dir, input));
    parts.push_back({*name, std::move(file)});
  }
  const std::string checkpoints = checkpoints_file(recording.manifest);
  if (recording_file_exists(recording.dir, checkpoints)) DEJA_TRY(add(part_of(recording.dir, checkpoints)));
  return parts;
}

Status pack(PackedOutput& packed, const Part& part, const std::function<void(u64 size)>& done) {
  const u64 size = part.file.size();
  const TarHeader h = tar_header(part.name, size);
  DEJA_TRY(packed.write({reinterpret_cast<const char*>(&h), sizeof h}));
  std::vector<u8> piece(kPiece);
  for (u64 at = 0; at < size; at += piece.size()) {
    piece.resize(std::min<u64>(size - at, kPiece));
    DEJA_TRY(part.file.read(at, piece));
    DEJA_TRY(packed.write({reinterpret_cast<const char*>(piece.data()), piece.size()}));
    done(piece.size());
  }
  return packed.write(std::string(padding(size), '\0'));
}

}  // namespace

Result<u64> pack_recording(const fs::path& recording, const fs::path& file, PackImages images,
                           const std::function<void(u64, u64)>& progress) {
  DEJA_ASSIGN(const Recording opened, Recording::open(recording));
  if (opened.state == RecordingState::writing)
    return make_error("{}: is still being written; wait for its end", recording.string());
  DEJA_ASSIGN(const std::vector<Part> parts, parts_of(opened, images));
  u64 all = 0, done = 0;
  for (const Part& part : parts) all += part.file.size();

  File out(file, O_WRONLY | O_CREAT | O_EXCL);
  if (out.fd < 0) return out.failed("create");
  Unfinished unfinished(file);
  PackedOutput packed(out);
  for (const Part& part : parts)
    DEJA_TRY(pack(packed, part, [&](u64 size) {
      done += size;
      if (progress) progress(done, all);
    }));
  DEJA_TRY(packed.write(std::string(2 * kBlock, '\0'), true));
  if (::fsync(out.fd) != 0 && errno != EINVAL) return out.failed("sync");
  unfinished.keep();
  std::error_code ec;
  return static_cast<u64>(fs::file_size(file, ec));
}

Status unpack_recording(const fs::path& file, const fs::path& recording) {
  std::error_code ec;
  if (fs::exists(fs::symlink_status(recording, ec)))
    return make_error("{}: exists already", recording.string());
  fs::create_directories(fs::absolute(recording, ec).parent_path(), ec);
  const fs::path dir = recording.string() + fmt::format(".unpacking.{}", ::getpid());
  // Nobody else had a hand in it.
  if (::mkdir(dir.c_str(), 0700) != 0)
    return make_error("{}: cannot create: {}", dir.string(), host_error(errno));
  Unfinished unfinished(dir);
  if (::mkdir((dir / kInputsDir).c_str(), 0700) != 0)
    return make_error("{}: cannot create: {}", (dir / kInputsDir).string(), host_error(errno));
  DEJA_TRY(unpack_into(file, dir));
  // Half a recording is none.
  const auto opened = Recording::open(dir);
  if (!opened) return make_error("{}: holds no whole recording: {}", file.string(), opened.error().message);
  if (!move_to_new(dir, recording))
    return make_error("{}: cannot create: {}", recording.string(), host_error(errno));
  unfinished.keep();
  return {};
}

Result<fs::path> unpacked_copy(const fs::path& file) {
  std::error_code ec;
  const fs::path real = fs::canonical(file, ec);
  struct stat st {};
  if (ec || ::stat(real.c_str(), &st) != 0)
    return make_error("{}: cannot open: {}", file.string(), ec.message());
  DEJA_ASSIGN(const fs::path home, default_recordings_dir());
  const fs::path cache = home / kUnpackedDir;
  // Another content has another size or date.
  const std::string identity =
      fmt::format("{}\n{}\n{}.{}", real.string(), st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  const fs::path copy = cache / fmt::format("{}-{:016x}{}", real.stem().string(),
                                            XXH3_64bits(identity.data(), identity.size()), kRecordingSuffix);
  if (fs::exists(copy, ec)) return copy;
  fs::create_directories(cache, ec);
  if (Status status = unpack_recording(real, copy); !status && !fs::exists(copy, ec)) return status.error();
  return copy;
}

}  // namespace deja
