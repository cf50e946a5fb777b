// Images in qcow2, right but for a few things.
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "fuzz/hostile_image.h"

namespace deja::fuzz {
namespace {

class Image {
 public:
  explicit Image(Random& random) : random_(random), bits_(9 + static_cast<unsigned>(random.below(5))) {
    const u64 cluster = u64{1} << bits_, entries = 1 + random.below(3), tables = 1 + entries;
    bytes.resize(cluster * (tables + 6));
    bytes.replace(0, 4, "QFI\xfb");
    put32(4, random.one_in(4) ? 2 : 3);
    put32(20, bits_);
    put64(24, random.one_in(8) ? random.edgy() : random.below(entries * cluster * cluster / 8 + 1));
    put32(36, static_cast<u32>(random.one_in(10) ? random.edgy() : entries));
    put64(40, random.one_in(10) ? random.edgy() : cluster);
    put32(100, random.one_in(2) ? 104 : 112);
    if (random.one_in(4))
      put64(72, random.one_in(2) ? 8 : random.edgy()), bytes[104] = static_cast<char>(random.below(3));
    for (u64 i = 0; i < entries; ++i) {
      put64(cluster + 8 * i, random.one_in(10) ? random.edgy() : cluster * (2 + i) | u64{1} << 63);
      for (u64 e = 0; e < cluster / 8 && 2 + i < tables + 1; ++e)
        put64(cluster * (2 + i) + 8 * e, entry(cluster));
    }
    if (random.one_in(3)) damage(random, bytes);
  }
  std::string bytes;

 private:
  u64 entry(u64 cluster) {
    const u64 place = cluster * random_.below(bytes.size() / cluster);
    switch (random_.below(8)) {
      case 0:
        return 0;
      case 1:
        return 1;
      case 2:
        return random_.edgy();
      case 3: {  // compressed: where, and how many sectors more
        const u64 at = place + random_.below(cluster);
        return u64{1} << 62 | random_.below(4) << (62 - (bits_ - 8)) | at;
      }
      case 4:
        return compressed();
      default:
        return place | u64{1} << 63;
    }
  }
  // Some that do unpack.
  u64 compressed() {
    if (packed_) return packed_;
    const std::string plain(u64{1} << bits_, 'B');
    std::string out(plain.size() + 64, '\0');
    z_stream z{};
    deflateInit2(&z, 9, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
    z.avail_in = static_cast<uInt>(plain.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    deflateEnd(&z);
    out.resize(z.total_out);
    packed_ = u64{1} << 62 | bytes.size();
    bytes += out;
    return packed_;
  }
  void put32(u64 at, u32 value) {
    value = __builtin_bswap32(value);
    if (at + 4 <= bytes.size()) std::memcpy(&bytes[at], &value, 4);
  }
  void put64(u64 at, u64 value) {
    value = __builtin_bswap64(value);
    if (at + 8 <= bytes.size()) std::memcpy(&bytes[at], &value, 8);
  }
  Random& random_;
  unsigned bits_;
  u64 packed_ = 0;
};

}  // namespace

void run_case(Random& random) { read_image(random, Image(random).bytes, "qcow2"); }

}  // namespace deja::fuzz
