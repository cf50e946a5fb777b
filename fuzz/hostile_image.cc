#include "fuzz/hostile_image.h"

#include "disk/disk_image.h"

namespace deja::fuzz {

void read_image(Random& random, const std::string& bytes, const std::string& format) {
  const MemoryFile file(bytes);
  auto image = open_disk_image(file.path(), format);
  if (!image) return;
  std::vector<u8> out;
  for (unsigned i = 0; i < 50; ++i) {
    out.resize(random.below(20'000));
    const u64 size = image->content->size();
    (void)image->content->read(random.one_in(8) ? random.edgy() >> 4 : random.below(size), out);
  }
}

}  // namespace deja::fuzz
