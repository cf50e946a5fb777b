// Unpacks what a kernel image can be compressed with (Linux scripts/Makefile.lib, lib/decompress.c).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

enum class Compression : u8 { gzip, bzip2, lzma, xz, lzo, lz4, zstd };

// By the magic number; nullopt when it is none of these.
std::optional<Compression> detect_compression(std::span<const u8> data);
std::string_view compression_name(Compression c);

// Unpacks one stream from the start of `in`; what follows the stream is ignored (Linux appends the unpacked
// size, four bytes). At most `limit` bytes come out. The error says what is wrong with the data, not whose
// data it is.
Result<std::vector<u8>> decompress(Compression c, std::span<const u8> in, u64 limit);

}  // namespace deja
