// A Linux kernel that was recorded, as it describes itself: where its variables are and what its structures
// look like. Its file says where it was linked; where it runs at a moment, the vCPUs do.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "linux/btf.h"
#include "linux/kallsyms.h"
#include "linux/kernel_place.h"
#include "linux/linear_memory.h"

namespace deja {

class GuestKernel;

// The kernel at one moment.
class RunningKernel {
 public:
  RunningKernel(const GuestKernel& kernel, const KernelPlace& place) : kernel_(kernel), place_(place) {}
  // Of a variable: its linear address.
  Result<u64> address_of(std::string_view name) const;
  // An address space that maps the kernel.
  const PagingKey& space() const { return place_.space; }

 private:
  const GuestKernel& kernel_;
  KernelPlace place_;
};

class GuestKernel {
 public:
  // `vmlinux`, unpacked, and the symbols in it. An error says what is missing: symbols, or the description of
  // types that CONFIG_DEBUG_INFO_BTF adds.
  static Result<GuestKernel> make(std::span<const u8> vmlinux, std::vector<KernelSymbol> symbols);

  // An error: it is not set up at this moment, or another kernel runs. Changes nothing.
  Result<RunningKernel> at_this_moment(Machine& machine) const;
  // As in its file: where a variable was linked, and how far a per-CPU variable is from the start of each
  // CPU's area.
  Result<u64> linked_address_of(std::string_view name) const;
  const Btf& types() const { return types_; }
  GuestKernel(GuestKernel&&) = default;
  GuestKernel& operator=(GuestKernel&&) = default;

 private:
  GuestKernel() = default;

  KernelBanner banner_;
  std::vector<KernelSymbol> symbols_;
  std::vector<u8> type_bytes_;  // what types_ refers to
  Btf types_;
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
