// Memory for a code cache: mapped twice, at one place writable and at another executable. The sandbox allows
// no executable mapping at all (docs/security.md), so what a process will need is made before it is entered,
// and what a machine gives back is kept for the next one.
#pragma once

#include "base/result.h"
#include "base/types.h"
#include "translate/exec_context.h"

namespace deja {

class CodeMemory {
 public:
  // At least `bytes` of code, all zero, behind ordinary memory with room for an ExecContext.
  static Result<CodeMemory> take(u64 bytes);
  // Makes that many exist, those in use included, as far as the host allows: take() says what it lacks.
  static void reserve(unsigned count);

  CodeMemory() = default;
  CodeMemory(CodeMemory&& o) noexcept;
  CodeMemory& operator=(CodeMemory&& o) noexcept;
  ~CodeMemory();

  u8* front() const { return piece_.front; }
  u8* exec() const { return piece_.exec(); }
  u8* write() const { return piece_.write; }

 private:
  static constexpr u64 kFrontBytes = (sizeof(ExecContext) + kPageSize - 1) & ~(kPageSize - 1);
  struct Piece {
    u64 bytes = 0;
    u8* front = nullptr;  // and right behind it the executable mapping
    u8* write = nullptr;
    u8* exec() const { return front + kFrontBytes; }
  };
  struct Pool;
  static Pool& pool();
  static Result<Piece> make(u64 bytes);
  static void unmap(const Piece& piece);
  explicit CodeMemory(const Piece& piece) : piece_(piece) {}

  Piece piece_;
};

}  // namespace deja
