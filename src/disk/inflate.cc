#include "disk/inflate.h"

#include <zlib.h>

namespace deja {

bool inflate_exactly(std::span<const u8> in, std::span<u8> out, int window_bits) {
  z_stream z{};
  if (inflateInit2(&z, window_bits) != Z_OK) return false;
  z.next_in = const_cast<u8*>(in.data());
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(out.size());
  const int r = inflate(&z, Z_FINISH);
  const bool full = z.avail_out == 0;
  inflateEnd(&z);
  return (r == Z_STREAM_END || r == Z_BUF_ERROR) && full;
}

}  // namespace deja
