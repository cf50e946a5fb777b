// Kernels: ELF, bzImage with payloads in every compression, Multiboot; right but for a few things.
#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"
#include "fuzz/target.h"
#include "guest/cpu_state.h"
#include "machine/bzimage.h"
#include "machine/decompress.h"
#include "machine/elf_kernel.h"
#include "machine/images_for_test.h"
#include "machine/multiboot.h"

namespace deja::fuzz {
namespace {

using test::Bytes;

std::string text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }
std::span<const u8> span_of(const std::string& s) {
  return {reinterpret_cast<const u8*>(s.data()), s.size()};
}

Bytes small_elf(Random& random) {
  const Bytes code(random.below(3000), 0x90);
  switch (random.below(3)) {
    case 0:
      return test::make_elf32(0x100000, 0xc0100000, 0x100000, code, static_cast<u32>(random.edgy()));
    case 1:
      return test::make_elf64(random.edgy(),
                              {{random.edgy(), random.edgy(), code, random.edgy()}, {2_MiB, 0, code}});
    default:
      return test::make_elf64(1_MiB, {{1_MiB, 0xffffffff81000000, code, 20000}, {2_MiB, 0, code}});
  }
}

Bytes packed(Random& random, const Bytes& plain) {
  Bytes out(plain.size() * 2 + 4096);
  std::size_t size = 0;
  switch (random.below(4)) {
    case 0:
      return test::make_lz4_payload(plain);
    case 1:
      size = ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 1);
      break;
    case 2: {
      unsigned n = static_cast<unsigned>(out.size());
      BZ2_bzBuffToBuffCompress(reinterpret_cast<char*>(out.data()), &n,
                               reinterpret_cast<char*>(const_cast<u8*>(plain.data())),
                               static_cast<unsigned>(plain.size()), 1, 0, 0);
      size = n;
      break;
    }
    default:
      lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, plain.data(), plain.size(), out.data(), &size,
                              out.size());
  }
  out.resize(size);
  append(out, static_cast<u32>(plain.size()));
  return out;
}

// The file comes first in its 8 KiB, as the specification wants.
Bytes multiboot(Random& random) {
  Bytes out(random.below(64) * 4);
  const u64 header = out.size();
  const u32 flags =
      static_cast<u32>(random.one_in(4) ? random.edgy() : random.pick<u64>({0, 2, 0x10000, 0x10003}));
  out.resize(header + 48 + random.below(4000));
  test::poke<u32>(out, header, 0x1badb002);
  test::poke<u32>(out, header + 4, flags);
  test::poke<u32>(out, header + 8, 0u - 0x1badb002 - flags);
  const auto address = [&] {
    return static_cast<u32>(random.one_in(4) ? random.edgy() : 0x100000 + random.below(8192));
  };
  for (u64 at = 12; at <= 28; at += 4) test::poke<u32>(out, header + at, address());
  return out;
}

void load(const std::string& file) {
  const std::unique_ptr<GuestRam> ram = GuestRam::create(32_MiB).value();
  const std::span<const u8> bytes = span_of(file);
  if (is_elf(bytes)) {
    auto elf = parse_elf(bytes);
    if (elf && elf->end() <= ram->size()) (void)load_elf(*ram, *elf, bytes);
    if (elf) (void)elf->physical_entry();
  }
  if (is_multiboot(bytes)) {
    CpuState cpu{};
    BootConfig config;
    config.kernel = {"kernel", {bytes.begin(), bytes.end()}};
    (void)load_multiboot(*ram, cpu, config);
  }
}

}  // namespace

void run_case(Random& random) {
  const Bytes elf = small_elf(random);
  std::string file;
  switch (random.below(4)) {
    case 0:
      file = text(elf);
      break;
    case 1:
      file = text(multiboot(random));
      break;
    case 2: {
      std::string payload = text(packed(random, elf));
      if (random.one_in(2)) damage(random, payload);
      if (const auto compression = detect_compression(span_of(payload)))
        (void)decompress(*compression, span_of(payload), 4_MiB);
      return;
    }
    default:
      file = text(test::make_bzimage(packed(random, elf)));
  }
  if (!random.one_in(8)) damage(random, file);
  if (is_bzimage(span_of(file))) {
    auto image = parse_bzimage(span_of(file));
    auto vmlinux = image ? extract_vmlinux(*image) : Result<std::vector<u8>>(image.error());
    if (vmlinux) load(text(*vmlinux));
    return;
  }
  load(file);
}

}  // namespace deja::fuzz
