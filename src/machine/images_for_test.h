// Small synthetic kernels for the tests of this folder.
#pragma once

#include <lz4.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "guest/ram.h"
#include "machine/boot_memory.h"

namespace deja::test {

using Bytes = std::vector<u8>;

inline std::unique_ptr<GuestRam> make_ram(u64 size) { return std::move(GuestRam::create(size)).value(); }

template <class T>
T peek(const GuestRam& ram, u64 address) {
  T value{};
  DEJA_CHECK(ram.read(Gpa(address), &value, sizeof value));
  return value;
}
template <class T>
void poke(Bytes& bytes, u64 offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

struct Segment {
  u64 physical = 16_MiB;
  u64 virtual_address = 0xffffffff81000000;
  Bytes content;
  u64 memory_size = 0;
};

// An ELF64 executable for x86-64.
inline Bytes make_elf64(u64 entry, const std::vector<Segment>& segments) {
  Bytes out(64 + 56 * segments.size());
  std::memcpy(out.data(),
              "\x7f"
              "ELF\2\1\1",
              7);
  poke<u16>(out, 16, 2);
  poke<u16>(out, 18, 62);
  poke<u32>(out, 20, 1);
  poke<u64>(out, 24, entry);
  poke<u64>(out, 32, 64);
  poke<u16>(out, 52, 64);
  poke<u16>(out, 54, 56);
  poke<u16>(out, 56, static_cast<u16>(segments.size()));
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    const u64 p = 64 + 56 * i;
    poke<u32>(out, p, 1);
    poke<u64>(out, p + 8, out.size());
    poke<u64>(out, p + 16, s.virtual_address);
    poke<u64>(out, p + 24, s.physical);
    poke<u64>(out, p + 32, s.content.size());
    poke<u64>(out, p + 40, s.memory_size ? s.memory_size : s.content.size());
    out.insert(out.end(), s.content.begin(), s.content.end());
  }
  return out;
}

// An ELF32 executable for i386 with one segment.
inline Bytes make_elf32(u32 entry, u32 virtual_address, u32 physical, const Bytes& content, u32 memory_size) {
  Bytes out(52 + 32 + content.size());
  std::memcpy(out.data(),
              "\x7f"
              "ELF\1\1\1",
              7);
  poke<u16>(out, 16, 2);
  poke<u16>(out, 18, 3);
  poke<u32>(out, 24, entry);
  poke<u32>(out, 28, 52);
  poke<u16>(out, 42, 32);
  poke<u16>(out, 44, 1);
  poke<u32>(out, 52, 1);
  poke<u32>(out, 56, 84);
  poke<u32>(out, 60, virtual_address);
  poke<u32>(out, 64, physical);
  poke<u32>(out, 68, static_cast<u32>(content.size()));
  poke<u32>(out, 72, memory_size);
  std::copy(content.begin(), content.end(), out.begin() + 84);
  return out;
}

// LZ4's legacy frame with the unpacked size behind it, as Linux makes it.
inline Bytes make_lz4_payload(const Bytes& plain) {
  Bytes out{0x02, 0x21, 0x4c, 0x18};
  for (u64 at = 0; at < plain.size(); at += 8_MiB) {
    const u64 n = std::min<u64>(8_MiB, plain.size() - at);
    Bytes block(static_cast<u64>(LZ4_compressBound(static_cast<int>(n))));
    const int size = LZ4_compress_default(reinterpret_cast<const char*>(plain.data() + at),
                                          reinterpret_cast<char*>(block.data()), static_cast<int>(n),
                                          static_cast<int>(block.size()));
    DEJA_CHECK(size > 0);
    append(out, static_cast<u32>(size));
    out.insert(out.end(), block.begin(), block.begin() + size);
  }
  append(out, static_cast<u32>(plain.size()));
  return out;
}

// A bzImage with protocol 2.15 around a payload: one setup sector, 400h bytes of code, the payload.
inline Bytes make_bzimage(const Bytes& payload) {
  Bytes out(1024 + 0x400);
  out.insert(out.end(), payload.begin(), payload.end());
  while (out.size() % 16) out.push_back(0);
  poke<u8>(out, 0x1f1, 1);
  poke<u32>(out, 0x1f4, static_cast<u32>((out.size() - 1024) / 16));
  poke<u16>(out, 0x1fe, 0xaa55);
  poke<u16>(out, 0x200, 0x6aeb);
  std::memcpy(out.data() + 0x202, "HdrS", 4);
  poke<u16>(out, 0x206, 0x20f);
  poke<u8>(out, 0x211, 1);
  poke<u32>(out, 0x22c, 0x7fffffff);
  poke<u16>(out, 0x236, 0x7f);
  poke<u32>(out, 0x238, 2047);
  poke<u32>(out, 0x248, 0x400);
  poke<u32>(out, 0x24c, static_cast<u32>(payload.size()));
  poke<u64>(out, 0x258, 16_MiB);
  poke<u32>(out, 0x260, 1_MiB);
  for (u64 i = 0; i < 0x400; ++i) out[1024 + i] = static_cast<u8>(i);
  return out;
}

// The vmlinux that the tests boot: code, and a bss that must be zeroed.
inline Bytes make_vmlinux() {
  Bytes code(5000);
  for (u64 i = 0; i < code.size(); ++i) code[i] = static_cast<u8>(i * 7 + 1);
  return make_elf64(16_MiB, {{16_MiB, 0xffffffff81000000, code, 20000}});
}

}  // namespace deja::test
