// DEFLATE streams of a known unpacked size (RFC 1951), as disk images have them.
#pragma once

#include <span>

#include "base/types.h"

namespace deja {

// Fills `out` with the start of what `in` unpacks to; false if it does not, or has less. `in` may be longer
// than the stream. `window_bits` as zlib's inflateInit2 has them: 15 with zlib's header (RFC 1950), negative
// without.
bool inflate_exactly(std::span<const u8> in, std::span<u8> out, int window_bits);

}  // namespace deja
