// Guest memory at the present moment, as somebody in the machine sees it: the one way to look at it from
// outside.
//
//   const GuestView memory = GuestView::of_vcpu(machine, 0);
//   u64 next = 0;
//   if (memory.value(address, &next)) …                    // 8 bytes, across pages if need be
//   show("{}", memory.instruction(linear_pc(machine.cpu(0))).text);
//
// A view is a machine and an address space, cheap to copy, and holds no bytes: it shows what is there when it
// is asked, and is worth nothing once its machine is gone. Looking changes nothing that the guest or a digest
// could notice, no accessed bit either, so everything is const. Pages that are absent (GuestRam) are loaded
// on the way: that is a cache being filled. It also means that two threads may not look at one machine at a
// time. Zeros stand in place of a page that cannot be loaded; Navigator::sound() tells.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "decode/insn.h"
#include "guest/canonical.h"
#include "guest/page_walk.h"
#include "machine/machine.h"

namespace deja {

// RIP as a linear address: that of the instruction that comes next.
inline u64 linear_pc(const CpuState& s) { return s.mode64() ? s.rip : (s.seg[CS].base + s.rip) & 0xffffffff; }

struct GuestInsn {
  bool ok = false;  // false: not mapped, or no instruction
  Insn insn;
  std::string text;
};

class GuestView {
 public:
  // By the page tables and in the mode that the vCPU has now.
  static GuestView of_vcpu(const Machine& machine, unsigned vcpu);
  // By these page tables, in 64-bit mode.
  static GuestView of_space(const Machine& machine, const PagingKey& space);
  // Addresses are physical.
  static GuestView physical(const Machine& machine);
  // The same vCPU's with another value of CR3, of which the bits that are no address do not count.
  GuestView with_table(u64 cr3) const;

  const Machine& machine() const { return *machine_; }
  bool is_physical() const { return !space_; }
  // The top table; 0 with physical addresses and without paging.
  u64 table() const { return space_ ? space_->cr3 : 0; }

  // Where an address leads to, whoever may go there: RAM, or a device. Outside long mode it has 32 bits.
  std::optional<Gpa> translate(u64 address) const;
  // How many of the bytes from `address` on are in memory, without a gap; these are in `out`. What goes
  // beyond the last address continues at 0, as accesses do.
  u64 read_some(u64 address, void* out, u64 size) const;
  // All of them, or false.
  bool read(u64 address, void* out, u64 size) const { return read_some(address, out, size) == size; }
  template <typename T>
  bool value(u64 address, T* out) const {
    return read(address, out, sizeof *out);
  }
  // Up to the first zero byte, or all of `most` bytes, made printable. The only way for text of a guest's
  // into names and messages. nullopt: it is not all in memory.
  std::optional<std::string> text(u64 address, std::size_t most) const;

  // What a processor in the view's mode would run there.
  GuestInsn instruction(u64 address) const;

  // Calls `page` with each 4 KiB page that is mapped below kUserEnd, and where; of large pages with the
  // first. False from it: no more. Nothing without 4-level paging. Tables that lead to themselves map 2^35
  // pages: there is a limit, which a process with 64 GiB stays within.
  void each_user_page(const std::function<bool(Gva, Gpa)>& page) const;

 private:
  GuestView(const Machine& machine, std::optional<PagingKey> space) : machine_(&machine), space_(space) {}

  const Machine* machine_;
  std::optional<PagingKey> space_;  // none: physical
  CodeSize code_ = CodeSize::bits64;
  bool stack_big_ = true;
};

}  // namespace deja
