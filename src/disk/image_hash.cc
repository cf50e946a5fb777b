#include "disk/image_hash.h"

#include <openssl/evp.h>
#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "sandbox/sandbox.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPiece = 4 << 20;
constexpr std::size_t kDigits = 64;
constexpr const char* kNamed = ".named";  // behind an identity: a note that has no content

std::optional<fs::path> cache_file(const std::string& identity) {
  const fs::path directory = image_hash_cache();
  if (directory.empty()) return std::nullopt;
  return directory / identity;
}

// A cache that cannot be written only costs time.
void remember(const std::string& identity, const std::string& sha256) {
  const auto path = cache_file(identity);
  if (!path) return;
  std::error_code ec;
  fs::create_directories(path->parent_path(), ec);
  const fs::path temporary = path->string() + ".new";
  std::ofstream(temporary) << sha256;
  fs::rename(temporary, *path, ec);
}

}  // namespace

fs::path image_hash_cache() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg)
    return fs::path(xdg) / "dejavm" / "images";
  if (const char* home = std::getenv("HOME"); home && *home)
    return fs::path(home) / ".cache" / "dejavm" / "images";
  return {};
}

std::optional<std::string> cached_image_sha256(const std::string& identity) {
  const auto path = cache_file(identity);
  if (!path) return std::nullopt;
  std::string text;
  std::ifstream(*path) >> text;
  const bool hex = std::all_of(text.begin(), text.end(),
                               [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (text.size() != kDigits || !hex) return std::nullopt;
  return text;
}

void note_named_image(const std::string& identity) {
  if (!is_named_image(identity)) remember(identity + kNamed, {});
}

// That its hash is there says nothing: it may have been looked at only because a manifest named it.
bool is_named_image(const std::string& identity) {
  const auto path = cache_file(identity + kNamed);
  std::error_code ec;
  return path && fs::exists(*path, ec);
}

Result<std::string> image_sha256(const HostFile& file, const std::function<bool()>& stop) {
  DEJA_ASSIGN(const std::string identity, file.identity());
  if (auto known = cached_image_sha256(identity)) return *known;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  DEJA_CHECK(context && EVP_DigestInit_ex(context, EVP_sha256(), nullptr));
  std::vector<u8> piece(kPiece);
  Status status;
  for (u64 at = 0; status && at < file.size(); at += piece.size()) {
    piece.resize(std::min<u64>(kPiece, file.size() - at));
    status = file.read(at, piece);
    EVP_DigestUpdate(context, piece.data(), piece.size());
    if (stop && stop()) status = make_error("disk image '{}': hashing was given up", file.path());
  }
  u8 digest[32];
  EVP_DigestFinal_ex(context, digest, nullptr);
  EVP_MD_CTX_free(context);
  if (!status) return status.error();
  DEJA_ASSIGN(const std::string identity_after, file.identity());
  if (identity_after != identity)
    return make_error("disk image '{}': was changed while it was in use", file.path());
  std::string hex;
  for (const u8 b : digest) hex += fmt::format("{:02x}", b);
  remember(identity, hex);
  return hex;
}

namespace {

constexpr char kHash = '+', kError = '-';  // what an answer of the process begins with

bool readable(int socket) {
  pollfd p{socket, POLLIN, 0};
  return ::poll(&p, 1, 0) > 0;
}

int hash_for(int socket, const std::string& path) {
  std::error_code ec;
  const fs::path cache = image_hash_cache();
  if (!cache.empty()) fs::create_directories(cache, ec);
  auto file = HostFile::open(path);
  HelperProcess::confine(Confined::keeper, {.write = {cache}});
  if (!receive_message(socket)) return 0;
  // The other side says no more: what can be read is its end.
  auto hash =
      file ? image_sha256(*file, [socket] { return readable(socket); }) : Result<std::string>(file.error());
  return send_message(socket, hash ? kHash + *hash : kError + hash.error().message) ? 0 : 1;
}

}  // namespace

BackgroundHash::BackgroundHash(std::string path) : path_(std::move(path)) {
  if (!sandbox::enabled()) return;
  auto process = HelperProcess::start("deja-hash", [&](int socket) { return hash_for(socket, path_); });
  if (process)
    process_ = std::move(process).value();
  else
    result_.emplace(process.error());
}

void BackgroundHash::begin() {
  if (process_) (void)send_message(process_->socket(), "go");  // that it has ended is found in take()
  if (process_ || result_) return;
  thread_ = std::thread([this] {
    auto file = HostFile::open(path_);
    result_.emplace(file ? image_sha256(*file, [this] { return stop_.load(); })
                         : Result<std::string>(file.error()));
    done_ = true;
  });
}

BackgroundHash::~BackgroundHash() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

bool BackgroundHash::done() const {
  return process_ ? readable(process_->socket()) : done_ || !thread_.joinable();
}

Result<std::string> BackgroundHash::take() {
  if (thread_.joinable()) thread_.join();
  if (!process_) return *result_;
  const std::optional<Message> answer = receive_message(process_->socket());
  if (!answer) return make_error("the process that hashes disk images has ended");
  const std::string text = answer->bytes.substr(1);
  if (answer->bytes[0] == kHash) return text;
  return Error{text};
}

}  // namespace deja
