#include "execute/cache/code_memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/host_limits.h"

namespace deja {
namespace {

constexpr u64 kReservedBytes = 64_MiB;

u8* map(u64 bytes, int protection, int flags) {
  void* const at = mmap(nullptr, bytes, protection, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<u8*>(at);
}

}  // namespace

struct CodeMemory::Pool {
  std::mutex mutex;
  std::vector<Piece> free;
  unsigned made = 0;            // in use or free
  std::optional<Error> lacked;  // why there are fewer than were to be reserved
};

CodeMemory::Pool& CodeMemory::pool() {
  static Pool the_pool;
  // A forked child does not have what lies in it.
  static const int registered =
      ::pthread_atfork([] { the_pool.mutex.lock(); }, [] { the_pool.mutex.unlock(); },
                       [] {
                         the_pool.free.clear();
                         the_pool.made = 0;
                         the_pool.mutex.unlock();
                       });
  DEJA_CHECK(registered == 0, "pthread_atfork: {}", registered);
  return the_pool;
}

// Shared memory without a file: neither `ulimit -f` nor `ulimit -n` is about it, and no descriptor of it is
// left lying about. mremap(2) with an old size of 0 maps it a second time.
Result<CodeMemory::Piece> CodeMemory::make(u64 bytes) {
  Piece p{bytes, nullptr, map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED)};
  if (p.write) p.front = map(kFrontBytes + bytes, PROT_NONE, MAP_PRIVATE);
  const auto give_up = [&](const char* what) {
    const Error error = make_error("cannot set up the code cache: {}: {}", what, host_error(errno));
    unmap(p);
    return error;
  };
  if (!p.front) return give_up("reserving address space");
  if (mprotect(p.front, kFrontBytes, PROT_READ | PROT_WRITE)) return give_up("mapping its context");
  if (mremap(p.write, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, p.exec()) == MAP_FAILED)
    return give_up("mapping it twice");
  if (mprotect(p.exec(), bytes, PROT_READ | PROT_EXEC))
    return give_up("mapping it executable, which the host may forbid to this process");
  // A helper process that is started later (sandbox/helper_process.h) must not share what this one runs.
  if (madvise(p.write, bytes, MADV_DONTFORK) || madvise(p.exec(), bytes, MADV_DONTFORK))
    return give_up("keeping it from other processes");
  return p;
}

void CodeMemory::unmap(const Piece& piece) {
  if (piece.front) munmap(piece.front, kFrontBytes + piece.bytes);
  if (piece.write) munmap(piece.write, piece.bytes);
}

Result<CodeMemory> CodeMemory::take(u64 bytes) {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  const auto fits =
      std::find_if(p.free.begin(), p.free.end(), [&](const Piece& piece) { return piece.bytes >= bytes; });
  if (fits != p.free.end()) {
    const Piece piece = *fits;
    p.free.erase(fits);
    return CodeMemory(piece);
  }
  auto piece = make(bytes);
  // After the sandbox was entered it is what keeps this from being made, and no reason that helps anybody.
  if (!piece) return p.lacked ? *p.lacked : piece.error();
  ++p.made;
  return CodeMemory(*piece);
}

void CodeMemory::reserve(unsigned count) {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  while (p.made < count) {
    auto piece = make(kReservedBytes);
    if (!piece) {
      p.lacked = piece.error();
      return;
    }
    p.free.push_back(*piece);
    ++p.made;
  }
}

CodeMemory::CodeMemory(CodeMemory&& o) noexcept : piece_(std::exchange(o.piece_, {})) {}

CodeMemory& CodeMemory::operator=(CodeMemory&& o) noexcept {
  std::swap(piece_, o.piece_);
  return *this;
}

CodeMemory::~CodeMemory() {
  if (!piece_.front) return;
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  // All zero again, which also gives the host its memory back.
  if (piece_.bytes == kReservedBytes && madvise(piece_.write, piece_.bytes, MADV_REMOVE) == 0 &&
      madvise(piece_.front, kFrontBytes, MADV_DONTNEED) == 0) {
    p.free.push_back(piece_);
    return;
  }
  unmap(piece_);
  --p.made;
}

}  // namespace deja
