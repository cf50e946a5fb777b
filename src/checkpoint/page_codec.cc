#include "checkpoint/page_codec.h"

#include <zstd.h>

#include <cstring>
#include <memory>
#include <new>

namespace deja {
namespace {

constexpr int kLevel = 1;

// zstd's working memory, which takes longer to make than a page to pack or unpack: kept for each thread.
template <class Context, Context* make(), size_t drop(Context*)>
Context* kept() {
  struct Drop {
    void operator()(Context* c) const { drop(c); }
  };
  static thread_local const std::unique_ptr<Context, Drop> context(make());
  if (!context) throw std::bad_alloc();
  return context.get();
}

}  // namespace

std::size_t pack_page(const u8* page, char* out) {
  ZSTD_CCtx* const context = kept<ZSTD_CCtx, ZSTD_createCCtx, ZSTD_freeCCtx>();
  const std::size_t size = ZSTD_compressCCtx(context, out, kPageSize, page, kPageSize, kLevel);
  if (!ZSTD_isError(size) && size < kPageSize) return size;
  std::memcpy(out, page, kPageSize);
  return kPageSize;
}

bool unpack_page(const char* stored, std::size_t size, u8* page) {
  if (size == kPageSize) {
    std::memcpy(page, stored, kPageSize);
    return true;
  }
  ZSTD_DCtx* const context = kept<ZSTD_DCtx, ZSTD_createDCtx, ZSTD_freeDCtx>();
  return ZSTD_decompressDCtx(context, page, kPageSize, stored, size) == kPageSize;
}

}  // namespace deja
