#include "machine/bzimage.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "machine/decompress.h"
#include "machine/elf_kernel.h"

namespace deja {
namespace {

// File offsets of setup header fields.
constexpr u64 kSetupSects = 0x1f1, kSyssize = 0x1f4, kBootFlag = 0x1fe, kJump = 0x200, kMagic = 0x202,
              kVersion = 0x206, kLoadflags = 0x211, kInitrdAddrMax = 0x22c, kXloadflags = 0x236,
              kCmdlineSize = 0x238, kPayloadOffset = 0x248, kPayloadLength = 0x24c, kPrefAddress = 0x258,
              kInitSize = 0x260;
constexpr u64 kHeaderMinEnd = 0x264;  // behind init_size
constexpr u64 kHeaderMaxEnd = 0x290;  // where boot_params goes on with edd_mbr_sig_buffer
constexpr u64 kParagraph = 16;        // bytes, the unit of syssize
constexpr u8 kLoadedHigh = 1;         // loadflags
constexpr u16 kKernel64 = 1;          // xloadflags XLF_KERNEL_64: entry point at +200h

// The kernel's mapping of itself is 1 GiB; a real vmlinux is below 100 MiB.
constexpr u64 kMaxVmlinux = 512_MiB;

template <class T>
T at(std::span<const u8> file, u64 offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

}  // namespace

bool is_bzimage(std::span<const u8> file) {
  return file.size() >= kMagic + 4 && at<u16>(file, kBootFlag) == 0xaa55 &&
         std::memcmp(file.data() + kMagic, "HdrS", 4) == 0;
}

Result<BzImage> parse_bzimage(std::span<const u8> file) {
  if (!is_bzimage(file)) return make_error("not a Linux bzImage");
  if (file.size() < kHeaderMinEnd)
    return make_error("setup header cut short: the file has {} bytes", file.size());
  BzImage image;
  image.version = at<u16>(file, kVersion);
  if (image.version < 0x20c)
    return make_error(
        "boot protocol {}.{:02} is too old: 2.12 (Linux 3.8) is the first with a 64-bit entry point",
        image.version >> 8, image.version & 0xff);
  if (!(at<u16>(file, kXloadflags) & kKernel64))
    return make_error("this is a 32-bit kernel; a 64-bit one (amd64) is needed");
  if (!(at<u8>(file, kLoadflags) & kLoadedHigh))
    return make_error("setup header: loadflags lacks LOADED_HIGH");

  // The header ends where the jump at 200h goes.
  const u64 header_end = std::min<u64>(kMagic + at<u8>(file, kJump + 1), kHeaderMaxEnd);
  if (header_end < kHeaderMinEnd || header_end > file.size())
    return make_error("setup header of {:#x} bytes, expected at least {:#x}", header_end - kSetupHeader,
                      kHeaderMinEnd - kSetupHeader);
  image.header = file.subspan(kSetupHeader, header_end - kSetupHeader);

  const u8 setup_sects = at<u8>(file, kSetupSects);
  const u64 setup_size = (u64{setup_sects ? setup_sects : u8{4}} + 1) * 512;
  // In paragraphs, of which the last need not be in the file to its end: boot loaders read what is there.
  const u64 promised = u64{at<u32>(file, kSyssize)} * kParagraph;
  if (setup_size > file.size() || promised >= file.size() - setup_size + kParagraph)
    return make_error("truncated: the setup header promises {} bytes, the file has {}", setup_size + promised,
                      file.size());
  const u64 code_size = std::min(promised, file.size() - setup_size);
  if (code_size <= 0x200)
    return make_error("setup header: syssize {} leaves no room for the 64-bit entry point",
                      promised / kParagraph);
  image.protected_mode = file.subspan(setup_size, code_size);

  const u64 payload_offset = at<u32>(file, kPayloadOffset), payload_length = at<u32>(file, kPayloadLength);
  if (payload_offset > code_size || payload_length > code_size - payload_offset)
    return make_error("setup header: payload of {:#x} bytes at {:#x} lies outside the code of {:#x} bytes",
                      payload_length, payload_offset, code_size);
  image.payload = image.protected_mode.subspan(payload_offset, payload_length);

  image.initrd_addr_max = at<u32>(file, kInitrdAddrMax);
  image.cmdline_size = at<u32>(file, kCmdlineSize);
  image.preferred_address = at<u64>(file, kPrefAddress);
  image.init_size = std::max<u64>(at<u32>(file, kInitSize), promised);
  return image;
}

Result<std::vector<u8>> extract_vmlinux(const BzImage& image) {
  if (is_elf(image.payload)) return std::vector<u8>(image.payload.begin(), image.payload.end());
  constexpr std::string_view kWayOut = "; --boot bzimage lets the guest unpack its kernel itself";
  const auto compression = detect_compression(image.payload);
  if (!compression) {
    std::string magic;
    for (u64 i = 0; i < std::min<u64>(8, image.payload.size()); ++i)
      magic += fmt::format(" {:02x}", image.payload[i]);
    return make_error("the kernel packed in it is in no known compression (it starts with{}){}",
                      magic.empty() ? " nothing" : magic, kWayOut);
  }
  auto vmlinux = decompress(*compression, image.payload, kMaxVmlinux);
  if (!vmlinux) return make_error("corrupt payload: {}{}", vmlinux.error().message, kWayOut);
  if (!is_elf(*vmlinux))
    return make_error("corrupt payload: its {} data holds no ELF file{}", compression_name(*compression),
                      kWayOut);
  return vmlinux;
}

}  // namespace deja
