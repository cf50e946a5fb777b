#include "machine/boot_cpu.h"

#include <algorithm>
#include <array>

#include "machine/boot_memory.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

constexpr u16 kBootCs = 0x10, kBootDs = 0x18;
// Accessed, present, S=1, DPL 0, G=1; code is execute/read with D or L, data is read/write with B.
constexpr u16 kCode32 = 0xc09b, kCode64 = 0xa09b, kData = 0xc093;

u64 flat_descriptor(u16 attr) {
  // Limit FFFFFh in pages, base 0 (SDM vol. 3A 3.4.5).
  return u64{attr} << 40 | u64{0xf} << 48 | 0xffff;
}

void load_flat_segments(GuestRam& ram, CpuState& cpu, u16 code_attr) {
  const std::array<u64, 4> gdt = {0, 0, flat_descriptor(code_attr), flat_descriptor(kData)};
  store_boot(ram, kBootGdt, gdt);
  cpu.gdtr = {kBootGdt, sizeof gdt - 1};
  cpu.idtr = {0, 0};
  for (SegmentRegister& s : cpu.seg) s = {0, 0xffffffff, kBootDs, kData};
  cpu.seg[CS] = {0, 0xffffffff, kBootCs, code_attr};
}

void clear_registers(CpuState& cpu, u64 entry) {
  std::fill(std::begin(cpu.gpr), std::end(cpu.gpr), 0);
  cpu.gpr[RSP] = kBootStackTop;
  cpu.rflags = flag::kReserved1;
  cpu.rip = entry;
  cpu.activity = Activity::running;
}

}  // namespace

void set_firmware_mtrrs(CpuState& cpu, u64 pci_start, unsigned physical_bits) {
  constexpr u64 kWriteBack = 6, kEnable = 1 << 11, kFixedEnable = 1 << 10, kValid = 1 << 11;
  constexpr u64 kAllWriteBack = 0x0606060606060606;
  // Fixed ranges in MSR order: 64 KiB units for 0..7FFFF, 16 KiB units for 80000..9FFFF and A0000..BFFFF,
  // then eight registers of 4 KiB units for C0000..FFFFF (SDM vol. 3A 11.11.2.2). Only video memory is
  // uncacheable.
  std::fill(std::begin(cpu.msr.mtrr_fixed), std::end(cpu.msr.mtrr_fixed), kAllWriteBack);
  cpu.msr.mtrr_fixed[2] = 0;
  cpu.msr.mtrr_phys[0] = pci_start;  // type 0, uncacheable, up to 4 GiB: a power of two
  cpu.msr.mtrr_phys[1] = ((u64{1} << physical_bits) - (4_GiB - pci_start)) | kValid;
  cpu.msr.mtrr_def_type = kWriteBack | kEnable | kFixedEnable;
}

void enter_protected_mode(GuestRam& ram, CpuState& cpu, u64 entry) {
  load_flat_segments(ram, cpu, kCode32);
  clear_registers(cpu, entry);
  cpu.cr0 = cr0bit::PE | cr0bit::ET | cr0bit::NE;
  cpu.cr4 = 0;
  cpu.efer = 0;
}

void enter_long_mode(GuestRam& ram, CpuState& cpu, u64 entry) {
  load_flat_segments(ram, cpu, kCode64);
  clear_registers(cpu, entry);

  // One PML4 entry, four PDPT entries, four directories of 2 MiB pages (SDM vol. 3A 4.5).
  constexpr u64 kPresentWritable = 3, kLargePage = 0x80;
  constexpr u64 kPdpt = kBootPageTables + kPageSize, kDirectories = kPdpt + kPageSize;
  std::vector<u8> tables(6 * kPageSize);
  const auto entry_at = [&](u64 table, u64 index) -> u64& {
    return reinterpret_cast<u64*>(tables.data() + (table - kBootPageTables))[index];
  };
  entry_at(kBootPageTables, 0) = kPdpt | kPresentWritable;
  for (u64 i = 0; i < 4; ++i) entry_at(kPdpt, i) = (kDirectories + i * kPageSize) | kPresentWritable;
  for (u64 i = 0; i < 4 * 512; ++i) entry_at(kDirectories, i) = i * 2_MiB | kPresentWritable | kLargePage;
  write_boot(ram, kBootPageTables, tables);

  cpu.cr3 = kBootPageTables;
  cpu.cr4 = cr4bit::PAE;
  cpu.efer = eferbit::LME | eferbit::LMA;
  cpu.cr0 = cr0bit::PG | cr0bit::PE | cr0bit::ET | cr0bit::NE;
}

}  // namespace deja
