#include "linux/linear_memory.h"

#include <algorithm>

namespace deja {

bool read_linear(Machine& machine, const PagingKey& key, u64 linear, void* out, u64 size) {
  u8* to = static_cast<u8*>(out);
  while (size) {
    const u64 n = std::min(size, kPageSize - Gva(linear).offset());
    const std::optional<Gpa> at = peek_translation(machine.ram(), key, Gva(linear));
    if (!at || !machine.ram().read(*at, to, n)) return false;
    to += n, linear += n, size -= n;
  }
  return true;
}

}  // namespace deja
