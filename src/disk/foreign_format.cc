#include "disk/foreign_format.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/shell_word.h"

namespace deja {
namespace {

using std::string_view_literals::operator""sv;

enum class From { start, end };  // what a sign's offset counts from; the end backward

struct Sign {
  ForeignFormat format;
  std::string_view magic;
  u64 offset = 0;
  From from = From::start;
};

constexpr u64 kFooter = 512;  // bytes, of VHD and dmg

constexpr ForeignFormat kVhdx{"VHDX", "vhdx", {}}, kVhd{"VHD", "vpc", {}}, kQed{"QED", "qed", {}},
    kQcow1{"QCOW (version 1)", "qcow", {}}, kParallels{"Parallels", "parallels", {}},
    kBochs{"Bochs", "bochs", {}}, kCloop{"cloop", "cloop", {}}, kDmg{"dmg", "dmg", {}};
constexpr ForeignFormat kLuks{
    "LUKS (encrypted)",
    {},
    "`qemu-img convert --object secret,id=key,file=PASSPHRASE --image-opts driver=luks,key-secret=key,"
    "file.filename=IMAGE -O qcow2 NEW.qcow2` decrypts it"};
constexpr ForeignFormat kGzip{"gzip", {}, "unpack it with `gzip -d`"},
    kXz{"xz", {}, "unpack it with `xz -d`"}, kZstd{"zstd", {}, "unpack it with `zstd -d`"},
    kBzip2{"bzip2", {}, "unpack it with `bzip2 -d`"}, kLz4{"LZ4", {}, "unpack it with `lz4 -d`"},
    kZip{"zip", {}, "unpack it with `unzip`"}, k7z{"7-Zip", {}, "unpack it with `7z x`"},
    kTar{"tar (as OVA is)", {}, "unpack it with `tar -xf` and use the disk image in it"},
    kSparse{"Android's sparse", {}, "`simg2img` makes it raw"},
    kEwf{"EWF (E01)", {}, "`ewfexport -f raw` makes it raw"};

// QEMU's are as block/*.c of QEMU 7.2 has them; VHD and dmg are also known by a footer, since what a VHD of
// fixed size and a dmg begin with is the disk.
constexpr Sign kSigns[] = {
    {kVhdx, "vhdxfile"sv},
    {kVhd, "conectix"sv},
    {kVhd, "conectix"sv, kFooter, From::end},
    {kVhd, "conectix"sv, kFooter - 1, From::end},  // Virtual PC before 2004 wrote 511 bytes
    {kQed, "QED\0"sv},
    {kQcow1, "QFI\xfb\0\0\0\1"sv},
    {kParallels, "WithoutFreeSpace"sv},
    {kParallels, "WithouFreSpacExt"sv},
    {kBochs, "Bochs Virtual HD Image"sv},
    {kCloop, "#!/bin/sh\n#V2.0 Format\n"sv},
    {kDmg, "koly"sv, kFooter, From::end},
    {kLuks, "LUKS\xba\xbe"sv},
    {kGzip, "\x1f\x8b\x08"sv},
    {kXz,
     "\xfd"
     "7zXZ\0"sv},
    {kZstd, "\x28\xb5\x2f\xfd"sv},
    {kLz4, "\x04\x22\x4d\x18"sv},
    {kZip, "PK\3\4"sv},
    {k7z, "7z\xbc\xaf\x27\x1c"sv},
    {kTar, "ustar"sv, 257},
    {kSparse, "\x3a\xff\x26\xed"sv},
    {kEwf, "EVF\x09\x0d\x0a\xff\0"sv},
};

std::string_view text_of(std::span<const u8> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool shows(const Sign& sign, std::string_view start, std::string_view end) {
  if (sign.from == From::start)
    return start.substr(std::min<u64>(sign.offset, start.size())).starts_with(sign.magic);
  return end.size() >= sign.offset && end.substr(end.size() - sign.offset).starts_with(sign.magic);
}

// "BZh", a level from 1 to 9, then the magic of a block or of the end.
bool is_bzip2(std::string_view start) {
  return start.size() >= 10 && start.starts_with("BZh") && start[3] >= '1' && start[3] <= '9' &&
         (start.substr(4, 6) == "1AY&SY" || start.substr(4, 6) == "\x17rE8P\x90");
}

// As an operand of qemu-img, which takes what begins with "-" for an option, and what is before a ":" for a
// protocol unless a "/" is before that.
std::string operand(const std::string& path) {
  const bool is_plain = !path.starts_with('-') && path.find(':') >= path.find('/');
  return shell_word(is_plain ? path : "./" + path);
}

}  // namespace

std::optional<ForeignFormat> foreign_format(std::span<const u8> start, std::span<const u8> end) {
  for (const Sign& sign : kSigns)
    if (shows(sign, text_of(start), text_of(end))) return sign.format;
  if (is_bzip2(text_of(start))) return kBzip2;
  return std::nullopt;
}

std::optional<ForeignFormat> foreign_format_named(std::string_view qemu_name) {
  const auto* const sign = std::find_if(std::begin(kSigns), std::end(kSigns), [&](const Sign& s) {
    return !qemu_name.empty() && s.format.qemu_name == qemu_name;
  });
  return sign == std::end(kSigns) ? std::nullopt : std::optional(sign->format);
}

std::string remedy(const ForeignFormat& format, const std::string& path) {
  if (format.qemu_name.empty()) return std::string(format.remedy);
  return fmt::format("`qemu-img convert -f {} -O qcow2 {} NEW.qcow2` makes one that is", format.qemu_name,
                     operand(path));
}

}  // namespace deja
