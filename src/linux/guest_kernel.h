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

namespace deja {

class GuestKernel;

// The kernel at one moment.
class RunningKernel {
 public:
  RunningKernel(const GuestKernel& kernel, const KernelPlace& place) : kernel_(kernel), place_(place) {}
  // The linear address of a variable.
  Result<u64> address_of(std::string_view name) const;
  // An address space that maps the kernel.
  const GuestView& memory() const { return place_.memory; }

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
  Result<RunningKernel> at_this_moment(const Machine& machine) const;
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

}  // namespace deja
