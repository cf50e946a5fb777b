#include "linux/guest_images.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "linux/elf_symbols.h"

namespace deja {
namespace {

constexpr std::size_t kMostImages = 4096;

// The image whose header stands at `linear`.
std::optional<GuestImage> image_at(const GuestView& memory, u64 linear) {
  std::vector<u8> page(kPageSize);
  if (!memory.read(linear, page.data(), page.size())) return std::nullopt;
  Elf64_Ehdr h;
  std::memcpy(&h, page.data(), sizeof h);
  if (std::memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_machine != EM_X86_64 ||
      h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > page.size() ||
      (page.size() - h.e_phoff) / sizeof(Elf64_Phdr) < h.e_phnum)
    return std::nullopt;
  GuestImage image;
  image.base = linear;
  image.fixed_address = h.e_type == ET_EXEC;
  image.lowest = ~u64{0};
  std::vector<Elf64_Phdr> notes;
  for (unsigned i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    std::memcpy(&p, page.data() + h.e_phoff + i * sizeof p, sizeof p);
    if (p.p_type == PT_LOAD) image.lowest = std::min(image.lowest, p.p_vaddr);
    if (p.p_type == PT_NOTE) notes.push_back(p);
  }
  if (image.lowest == ~u64{0}) return std::nullopt;
  for (const Elf64_Phdr& p : notes) {
    std::vector<u8> bytes(std::min<u64>(p.p_memsz, kPageSize));
    if (!image.build_id.empty() ||
        !memory.read(linear + p.p_vaddr - image.lowest, bytes.data(), bytes.size()))
      continue;
    image.build_id = build_id_in_notes(bytes);
  }
  return image;
}

}  // namespace

std::vector<GuestImage> guest_images(const GuestView& memory) {
  std::vector<GuestImage> images;
  memory.each_user_page([&](Gva page, Gpa) {
    char magic[SELFMAG];
    if (!memory.value(page.value, &magic) || std::memcmp(magic, ELFMAG, SELFMAG) != 0) return true;
    if (auto image = image_at(memory, page.value)) images.push_back(std::move(*image));
    return images.size() < kMostImages;
  });
  return images;
}

}  // namespace deja
