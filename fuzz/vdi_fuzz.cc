// Images in VDI, right but for a few things.
#include <cstring>

#include "fuzz/hostile_image.h"

namespace deja::fuzz {

void run_case(Random& random) {
  constexpr u64 kTableAt = 0x200, kDataAt = 0x400;
  const u64 block = u64{512} << random.below(5), blocks = random.below(100), present = 1 + random.below(8);
  const auto odd = [&](u64 usual) { return random.one_in(12) ? random.edgy() : usual; };
  std::string bytes(kDataAt + present * block, 'd');
  std::memset(bytes.data(), 0, kDataAt);
  const auto put = [&](u64 at, auto value) { std::memcpy(&bytes[at], &value, sizeof value); };
  bytes.replace(0, 3, "<<<");
  put(0x40, 0xbeda107f);
  put(0x44, static_cast<u32>(odd(0x10001)));
  put(0x48, static_cast<u32>(odd(0x190)));
  put(0x4c, static_cast<u32>(odd(1 + random.below(2))));
  put(0x154, static_cast<u32>(odd(kTableAt)));
  put(0x158, static_cast<u32>(odd(kDataAt)));
  put(0x170, odd(random.below(blocks * block + 1)));
  put(0x178, static_cast<u32>(odd(block)));
  if (random.one_in(12)) put(0x17c, static_cast<u32>(random.edgy()));
  put(0x180, static_cast<u32>(odd(blocks)));
  if (random.one_in(12)) put(0x1a8 + random.below(0x20), u8{1});
  for (u64 i = 0; i < blocks && kTableAt + 4 * i + 4 <= kDataAt; ++i)
    put(kTableAt + 4 * i,
        static_cast<u32>(odd(random.one_in(3) ? 0xfffffffe + random.below(2) : random.below(present + 1))));
  if (random.one_in(3)) damage(random, bytes);
  read_image(random, bytes, "vdi");
}

}  // namespace deja::fuzz
