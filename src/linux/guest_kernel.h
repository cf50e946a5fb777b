// A Linux kernel that was recorded, as it describes itself: where its variables are and what its structures
// look like.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linux/btf.h"
#include "linux/kallsyms.h"
#include "linux/linear_memory.h"

namespace deja {

class GuestKernel {
 public:
  // `vmlinux`, unpacked, and the symbols in it; `slide`: how far from where it was linked it runs. An error
  // says what is missing: symbols, or the description of types that CONFIG_DEBUG_INFO_BTF adds.
  static Result<GuestKernel> make(std::span<const u8> vmlinux, std::vector<KernelSymbol> symbols, u64 slide);
  GuestKernel() = default;
  GuestKernel(GuestKernel&&) = default;
  GuestKernel& operator=(GuestKernel&&) = default;

  // Of a variable: its linear address now.
  Result<u64> address_of(std::string_view name) const;
  // Of a per-CPU variable: how far from the start of each CPU's area it is.
  Result<u64> per_cpu_offset_of(std::string_view name) const;
  const Btf& types() const { return types_; }

  // An address space that maps the kernel: that of any vCPU which does. An error: it is not set up yet.
  Result<PagingKey> address_space(Machine& machine) const;

 private:
  Result<u64> linked_address_of(std::string_view name) const;

  std::vector<KernelSymbol> symbols_;
  std::vector<u8> type_bytes_;  // what types_ refers to
  Btf types_;
  u64 slide_ = 0;
};

// What a member of a structure in the guest holds. Members are given by their offsets.
class GuestReader {
 public:
  GuestReader(Machine& machine, const PagingKey& key) : machine_(machine), key_(key) {}
  bool bytes(u64 address, void* out, u64 size) const {
    return read_linear(machine_, key_, address, out, size);
  }
  template <typename T>
  bool value(u64 address, T* out) const {
    return bytes(address, out, sizeof *out);
  }
  // Up to the first zero byte, or all of `most` bytes, without what could steer a terminal.
  bool text(u64 address, std::size_t most, std::string* out) const;
  std::optional<Gpa> translate(u64 address) const {
    return peek_translation(machine_.ram(), key_, Gva(address));
  }

 private:
  Machine& machine_;
  PagingKey key_;
};

}  // namespace deja
