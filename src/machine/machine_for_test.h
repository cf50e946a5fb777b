// A machine whose vCPUs and page tables a test sets up itself, without a guest that does it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "machine/images_for_test.h"
#include "machine/machine.h"

namespace deja::test {

class MachineForTest {
 public:
  explicit MachineForTest(unsigned vcpus = 1) : kernel_(make_vmlinux()) {
    MachineConfig config;
    config.ram_bytes = 64_MiB;
    config.vcpus = vcpus;
    config.boot.kernel = {"kernel", kernel_};
    config.boot.vcpu_count = vcpus;
    auto machine = Machine::create(config, {});
    DEJA_CHECK(machine.ok(), "{}", machine.error().message);
    machine_ = std::move(*machine);
  }
  Machine& operator*() { return *machine_; }
  Machine* operator->() { return machine_.get(); }

  // The first one is in 64-bit mode.
  CpuState& cpu(unsigned i) { return const_cast<CpuState&>(machine_->cpu(i)); }

  // A new table without entries.
  u64 make_table() { return next_table_ += kPageSize; }
  // Maps a 4 KiB page below the top table of an address space.
  void map(u64 top, u64 linear, u64 physical) {
    u64 table = top;
    for (unsigned shift = 39; shift > kPageShift; shift -= 9) {
      const u64 at = table + (linear >> shift & 511) * 8;
      table = peek<u64>(machine_->ram(), at);
      if (!table) write(at, (table = make_table()) | kEntry);
      table &= ~(kPageSize - 1);
    }
    write(table + (linear >> kPageShift & 511) * 8, physical | kEntry);
  }
  template <class T>
  void write(u64 physical, const T& value) {
    DEJA_CHECK(machine_->ram().write(Gpa(physical), &value, sizeof value));
  }
  void write_text(u64 physical, const std::string& text) {
    DEJA_CHECK(machine_->ram().write(Gpa(physical), text.data(), text.size()));
  }

 private:
  static constexpr u64 kEntry = 7;  // present, writable, for users
  Bytes kernel_;
  std::unique_ptr<Machine> machine_;
  u64 next_table_ = 48_MiB;
};

}  // namespace deja::test
