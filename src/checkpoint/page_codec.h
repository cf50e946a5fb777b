// The contents of pages as checkpoints store them: zstd's, or as they are where that saves nothing.
#pragma once

#include <cstddef>

#include "base/types.h"
#include "guest/ram.h"

namespace deja {

// Into `out`, which has room for kPageSize bytes; how many there are.
std::size_t pack_page(const u8* page, char* out);
// The reverse, of `size` bytes. False: they are not a page.
bool unpack_page(const char* stored, std::size_t size, u8* page);

}  // namespace deja
