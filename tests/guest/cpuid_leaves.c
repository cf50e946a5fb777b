// Reads what the machine says of itself into memory: all leaves of CPUID, the MSRs that a kernel reads when it
// starts, registers of the interrupt controllers. For tests that compare memory with what it was.
#include "apic.h"

enum { LEAVES = 0x20, SUBLEAVES = 8, PCI_SLOTS = 32, PCI_REGISTERS = 64 };
static const u32 first_leaves[] = {0, 0x40000000, 0x80000000};
static u32 leaves[sizeof first_leaves / sizeof *first_leaves][LEAVES][SUBLEAVES][4];
static const u32 msrs[] = {0x10,  0x1b,  0x3a,  0x3b,  0x8b,  0xce,  0xfe,  0x10a, 0x174, 0x175, 0x176, 0x179, 0x17a,
                           0x186, 0x198, 0x199, 0x19c, 0x1a0, 0x1d9, 0x200, 0x201, 0x250, 0x258, 0x259, 0x277, 0x2ff,
                           0x38f, 0x400, 0x401, 0x6e0, 0x802, 0x803, 0xc0000080, 0xc0000081, 0xc0000082,
                           0xc0000084, 0xc0000100, 0xc0000102, 0xc0000103, 0xc0010015};
static struct {
  u64 value, fault;
} values[sizeof msrs / sizeof *msrs];
static u32 lapic[64], ioapic[64], pci[PCI_SLOTS][PCI_REGISTERS];
static u8 cmos[128];

CODE(read_msr, "rdmsr");

static void read_msrs(void) {
  for (u32 i = 0; i < sizeof msrs / sizeof *msrs; i++) {
    struct Context c = kernel_context(read_msr);
    c.cx = msrs[i];
    values[i].fault = run(&c);
    values[i].value = values[i].fault == BP ? (c.ax & 0xffffffff) | c.dx << 32 : 0;
  }
}

int main(void) {
  for (u32 range = 0; range < sizeof first_leaves / sizeof *first_leaves; range++)
    for (u32 leaf = 0; leaf < LEAVES; leaf++)
      for (u32 sub = 0; sub < SUBLEAVES; sub++) cpuid(first_leaves[range] + leaf, sub, leaves[range][leaf][sub]);
  EXPECT(leaves[0][0][0][0] >= 0xd);
  read_msrs();
  for (u32 i = 0; i < 64; i++) lapic[i] = LAPIC(16 * i), ioapic[i] = ioapic_read(i);
  for (u32 i = 0; i < 128; i++) cmos[i] = cmos_read(i);
  for (u32 slot = 0; slot < PCI_SLOTS; slot++)
    for (u32 reg = 0; reg < PCI_REGISTERS; reg++)
      outl(0xcf8, 1u << 31 | slot << 11 | reg << 2), pci[slot][reg] = inl(0xcfc);
  return 0;
}
