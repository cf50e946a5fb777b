// Images in VMDK, right but for a few things.
#include <zlib.h>

#include <cstring>
#include <vector>

#include "fuzz/hostile_image.h"

namespace deja::fuzz {
namespace {

constexpr u64 kSector = 512, kDescriptorAt = 1, kDirectoryAt = 3, kFirstTableAt = 4;

class Image {
 public:
  explicit Image(Random& random) : random_(random) {
    bytes.resize(kSector * (kFirstTableAt + kTables));
    const bool packed = random.one_in(2), footer = random.one_in(3);
    const u32 per_table = static_cast<u32>(odd(8, 1 + random.below(128)));
    grain_ = u64{1} << random.below(6);
    std::string header(kSector, '\0');
    header.replace(0, 4, "KDMV");
    put(header, 4, static_cast<u32>(odd(10, 1 + random.below(3))));
    put(header, 8, static_cast<u32>(odd(10, packed ? 0x30005 : 0x7)));
    put(header, 12, odd(8, random.below(kTables * per_table * grain_ + 1)));
    put(header, 20, odd(10, grain_));
    put(header, 28, odd(10, kDescriptorAt));
    put(header, 36, odd(10, 2));
    put(header, 44, per_table);
    put(header, 56, odd(10, kDirectoryAt));
    header.replace(73, 4, "\n \r\n");
    put(header, 77, static_cast<u16>(packed ? odd(10, 1) : 0));
    describe();
    for (u64 i = 0; i < 128; ++i)
      put(bytes, kSector * kDirectoryAt + 4 * i,
          static_cast<u32>(odd(10, random.one_in(6) ? 0 : kFirstTableAt + i % kTables)));
    for (u64 i = 0; i < 128 * kTables; ++i)
      if (!random.one_in(3))
        put(bytes, kSector * kFirstTableAt + 4 * i,
            static_cast<u32>(odd(12, random.one_in(3) ? 1 : grain(packed, i))));
    bytes.replace(0, kSector, header);
    if (footer) {
      bytes += std::string(kSector, '\0') + header + std::string(kSector, '\0');
      put(bytes, 56, ~u64{0});
    }
    if (random.one_in(3)) damage(random, bytes);
  }
  std::string bytes;

 private:
  static constexpr u64 kTables = 3;

  u64 odd(u64 n, u64 usual) { return random_.one_in(n) ? random_.edgy() : usual; }
  void describe() {
    std::string text = random_.one_in(8) ? "# Disk DescriptorFile\n" : "";
    text += random_.pick<const char*>({"parentCID=ffffffff\n", "parentCID=\"00000001\"\n", "parentCID", ""});
    text += random_.pick<const char*>(
        {"createType=\"monolithicSparse\"\n", "createType=\"streamOptimized\"\r\n", "createType=\"x", ""});
    text += random_.pick<const char*>({"RW 10 FLAT \"a\" 0\n", "RW 10 SPARSE \"a\"\n", "RW FLAT \"", ""});
    if (random_.one_in(3)) damage(random_, text);
    text.resize(2 * kSector);
    bytes.replace(kSector * kDescriptorAt, text.size(), text);
  }
  // The sector of a grain. Some are the one that the table says, and unpack.
  u64 grain(bool packed, u64 number) {
    if (places_.size() > 4 && !random_.one_in(4)) return places_[random_.below(places_.size())];
    const u64 at = bytes.size() / kSector;
    std::string content(kSector * grain_, 'g');
    if (packed) {
      uLongf length = compressBound(content.size());
      std::string out(12 + length, '\0');
      compress(reinterpret_cast<Bytef*>(&out[12]), &length, reinterpret_cast<const Bytef*>(content.data()),
               content.size());
      put(out, 0, odd(10, number * grain_));
      put(out, 8, static_cast<u32>(odd(10, length)));
      out.resize((12 + length + kSector - 1) / kSector * kSector);
      content = out;
    }
    bytes += content;
    places_.push_back(at);
    return at;
  }
  template <class T>
  static void put(std::string& to, u64 at, T value) {
    if (at + sizeof value <= to.size()) std::memcpy(&to[at], &value, sizeof value);
  }

  Random& random_;
  u64 grain_ = 0;
  std::vector<u64> places_;
};

}  // namespace

void run_case(Random& random) {
  // As a text of its own too: what such an image names must not be opened.
  std::string bytes = Image(random).bytes;
  if (random.one_in(8)) bytes.erase(0, kSector * kDescriptorAt).insert(0, "# Disk DescriptorFile\n");
  read_image(random, bytes, "vmdk");
}

}  // namespace deja::fuzz
