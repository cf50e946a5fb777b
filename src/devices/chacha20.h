// The ChaCha20 block function (RFC 8439 section 2.3): random numbers from a key, the same on every host.
#pragma once

#include <array>
#include <bit>
#include <cstring>

#include "base/types.h"

namespace deja {

using ChaChaKey = std::array<u32, 8>;

inline std::array<u8, 64> chacha20_block(const ChaChaKey& key, u32 counter, const std::array<u32, 3>& nonce) {
  std::array<u32, 16> in{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  for (unsigned i = 0; i < 8; ++i) in[4 + i] = key[i];
  in[12] = counter;
  for (unsigned i = 0; i < 3; ++i) in[13 + i] = nonce[i];
  std::array<u32, 16> x = in;
  const auto quarter = [&x](unsigned a, unsigned b, unsigned c, unsigned d) {
    x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 16);
    x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 12);
    x[a] += x[b], x[d] = std::rotl(x[d] ^ x[a], 8);
    x[c] += x[d], x[b] = std::rotl(x[b] ^ x[c], 7);
  };
  for (unsigned round = 0; round < 10; ++round) {
    for (unsigned i = 0; i < 4; ++i) quarter(i, 4 + i, 8 + i, 12 + i);
    for (unsigned i = 0; i < 4; ++i) quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
  }
  std::array<u8, 64> out;
  for (unsigned i = 0; i < 16; ++i) {
    const u32 word = x[i] + in[i];
    std::memcpy(&out[4 * i], &word, 4);
  }
  return out;
}

}  // namespace deja
