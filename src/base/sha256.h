// SHA-256, as 64 lower-case hexadecimal digits. A layer that uses it links OpenSSL.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <span>
#include <string>

#include "base/check.h"
#include "base/types.h"

namespace deja {

// The hash of what comes in pieces.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    DEJA_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void update(const void* data, std::size_t size) {
    DEJA_CHECK(EVP_DigestUpdate(context_.get(), data, size) == 1);
  }
  // Once.
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

inline std::string sha256_hex(std::span<const u8> bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.hex();
}

}  // namespace deja
