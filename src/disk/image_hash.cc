#include "disk/image_hash.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

namespace deja {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPiece = 4 << 20;
constexpr std::size_t kDigits = 64;

std::optional<fs::path> cache_file(const std::string& identity) {
  fs::path base;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg)
    base = xdg;
  else if (const char* home = std::getenv("HOME"); home && *home)
    base = fs::path(home) / ".cache";
  else
    return std::nullopt;
  return base / "dejavm" / "images" / identity;
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

Result<std::string> image_sha256(const HostFile& file, const std::atomic<bool>* stop) {
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
    if (stop && *stop) status = make_error("disk image '{}': hashing was given up", file.path());
  }
  u8 digest[32];
  EVP_DigestFinal_ex(context, digest, nullptr);
  EVP_MD_CTX_free(context);
  DEJA_TRY(status);
  DEJA_ASSIGN(const std::string identity_after, file.identity());
  if (identity_after != identity)
    return make_error("disk image '{}': was changed while it was in use", file.path());
  std::string hex;
  for (const u8 b : digest) hex += fmt::format("{:02x}", b);
  remember(identity, hex);
  return hex;
}

BackgroundHash::BackgroundHash(std::string path)
    : thread_([this, path = std::move(path)] {
        auto file = HostFile::open(path);
        result_.emplace(file ? image_sha256(*file, &stop_) : Result<std::string>(file.error()));
        done_ = true;
      }) {}

BackgroundHash::~BackgroundHash() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

Result<std::string> BackgroundHash::take() {
  thread_.join();
  return *result_;
}

}  // namespace deja
