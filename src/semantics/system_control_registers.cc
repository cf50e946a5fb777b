// MOV to and from control and debug registers, LMSW, CLTS, XGETBV, XSETBV, and the mode changes that come
// with them (SDM vol. 3A 2.5, 4.4.1, 9.8.5, vol. 2B "MOV—Move to/from Control Registers").
#include "base/log.h"
#include "semantics/system.h"

namespace deja {
namespace {

// PAE paging in use, as opposed to 4-level paging.
bool pae_paging(u64 cr0, u64 cr4, u64 efer) {
  return (cr0 & cr0bit::PG) && (cr4 & cr4bit::PAE) && !(efer & eferbit::LMA);
}

// Loads the four PDPTE registers from the table at CR3 (SDM vol. 3A 4.4.1); #GP(0) for reserved bits.
void load_pdptes(Vcpu& cpu, u64 cr3, u64 (&out)[4]) {
  const Gpa table(cr3 & 0xffffffe0);
  if (!cpu.mmu.read_physical(table, out, sizeof out)) {
    log_info("guest", "PDPTEs at {:x} are not in RAM", table.value);
    throw fault_gp();
  }
  constexpr u64 kPresent = 1;
  const u64 reserved = 0x1e6 | ~u64{0} << cpu.model.physical_bits;
  for (const u64 pdpte : out)
    if ((pdpte & kPresent) && (pdpte & reserved)) throw fault_gp();
}

u64 cr4_allowed(const CpuModel& model) {
  using namespace cr4bit;
  const u64 base =
      TSD | DE | PSE | PAE | MCE | PGE | PCE | OSFXSR | OSXMMEXCPT | UMIP | FSGSBASE | PCIDE | SMEP | SMAP;
  return model.avx ? base | OSXSAVE : base;
}

void write_cr3(Vcpu& cpu, u64 value) {
  CpuState& s = cpu.state;
  if (s.cr4 & cr4bit::PCIDE) value &= ~(u64{1} << 63);  // "keep TLB entries": none are ever stale here
  if (s.long_mode_active() && value >> cpu.model.physical_bits) throw fault_gp();
  if (pae_paging(s.cr0, s.cr4, s.efer)) {
    u64 pdptes[4];
    load_pdptes(cpu, value, pdptes);
    std::memcpy(s.pdpte, pdptes, sizeof pdptes);
  }
  s.cr3 = value;
  cpu.mmu.paging_changed();
}

void write_cr4(Vcpu& cpu, u64 value) {
  using namespace cr4bit;
  CpuState& s = cpu.state;
  if (value & ~cr4_allowed(cpu.model)) {
    log_info("guest", "reserved bits in CR4: {:x}", value);
    throw fault_gp();
  }
  const u64 changed = value ^ s.cr4;
  if (s.long_mode_active() && !(value & PAE)) throw fault_gp();
  if (changed & value & PCIDE && (!s.long_mode_active() || (s.cr3 & 0xfff))) throw fault_gp();
  if (pae_paging(s.cr0, value, s.efer) && changed & (PAE | PGE | PSE | SMEP)) {
    u64 pdptes[4];
    load_pdptes(cpu, s.cr3, pdptes);
    std::memcpy(s.pdpte, pdptes, sizeof pdptes);
  }
  s.cr4 = value;
  cpu.mmu.paging_changed();
}

// Bits that the reserved positions of DR6 and DR7 read as (SDM vol. 3B 18.2).
constexpr u64 kDr6Ones = 0xffff0ff0, kDr6Writable = 0xe00f, kDr7Ones = 0x400, kDr7Writable = 0xffff23ff;
constexpr u64 kDr6BreakpointDetected = 1 << 13, kDr7GeneralDetect = 1 << 13;

// Number of the debug register after the checks that MOV makes first; DR4 and DR5 are DR6 and DR7.
unsigned checked_debug_register(Vcpu& cpu, unsigned number) {
  const CpuState& s = cpu.state;
  if (number >= 8) throw fault_ud();
  if (number == 4 || number == 5) {
    if (s.cr4 & cr4bit::DE) throw fault_ud();
    number += 2;
  }
  require_cpl0(s);
  if (s.dr7 & kDr7GeneralDetect) throw GuestFault{.vector = kDB, .dr6 = kDr6BreakpointDetected};
  return number;
}

void mov_to_cr(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_cpl0(s);
  const u64 value = s.mode64() ? s.gpr[insn.op[1].reg] : low32(s.gpr[insn.op[1].reg]);
  switch (insn.op[0].reg) {
    case 0:
      return write_cr0(cpu, value);
    case 2:
      s.cr2 = value;
      return;
    case 3:
      return write_cr3(cpu, value);
    case 4:
      return write_cr4(cpu, value);
    case 8:
      if (value > 15) throw fault_gp();
      return cpu.platform.cr8_write(s.index, value);
    default:
      throw fault_ud();
  }
}

void mov_from_cr(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_cpl0(s);
  u64 value = 0;
  switch (insn.op[1].reg) {
    case 0:
      value = s.cr0;
      break;
    case 2:
      value = s.cr2;
      break;
    case 3:
      value = s.cr3;
      break;
    case 4:
      value = s.cr4;
      break;
    case 8:
      value = cpu.platform.cr8_read(s.index);
      break;
    default:
      throw fault_ud();
  }
  s.gpr[insn.op[0].reg] = s.mode64() ? value : low32(value);
}

void mov_to_dr(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const unsigned number = checked_debug_register(cpu, insn.op[0].reg);
  const u64 value = s.mode64() ? s.gpr[insn.op[1].reg] : low32(s.gpr[insn.op[1].reg]);
  if (number < 4) {
    s.dr[number] = value;
    return;
  }
  if (value >> 32) throw fault_gp();
  if (number == 6)
    s.dr6 = (value & kDr6Writable) | kDr6Ones;
  else
    s.dr7 = (value & kDr7Writable) | kDr7Ones;
}

void mov_from_dr(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const unsigned number = checked_debug_register(cpu, insn.op[1].reg);
  const u64 value = number < 4 ? s.dr[number] : number == 6 ? s.dr6 : s.dr7;
  s.gpr[insn.op[0].reg] = s.mode64() ? value : low32(value);
}

void lmsw(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_cpl0(s);
  constexpr u64 kLoaded = cr0bit::PE | cr0bit::MP | cr0bit::EM | cr0bit::TS;
  const u64 value = read_operand(cpu, insn, 0) & kLoaded;
  // It can set PE but not clear it.
  write_cr0(cpu, (s.cr0 & ~(kLoaded & ~cr0bit::PE)) | value);
}

void clts(Vcpu& cpu, const Insn&) {
  require_cpl0(cpu.state);
  cpu.state.cr0 &= ~cr0bit::TS;
}

void xgetbv(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  if (!(s.cr4 & cr4bit::OSXSAVE)) throw fault_ud();
  if (low32(s.gpr[RCX]) != 0) throw fault_gp();
  s.gpr[RAX] = low32(s.xcr0);
  s.gpr[RDX] = s.xcr0 >> 32;
}

void xsetbv(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  if (!(s.cr4 & cr4bit::OSXSAVE)) throw fault_ud();
  require_cpl0(s);
  constexpr u64 kX87 = 1, kSse = 2, kAvx = 4;
  const u64 value = low32(s.gpr[RAX]) | s.gpr[RDX] << 32;
  if (low32(s.gpr[RCX]) != 0 || value & ~(kX87 | kSse | kAvx) || !(value & kX87) ||
      ((value & kAvx) && !(value & kSse)))
    throw fault_gp();
  s.xcr0 = value;
}

}  // namespace

void write_cr0(Vcpu& cpu, u64 value) {
  using namespace cr0bit;
  CpuState& s = cpu.state;
  if (value >> 32) throw fault_gp();
  value = (value & (PE | MP | EM | TS | NE | WP | AM | NW | CD | PG)) | ET;
  if ((value & PG) && !(value & PE)) throw fault_gp();
  if ((value & NW) && !(value & CD)) throw fault_gp();
  const u64 changed = value ^ s.cr0;
  u64 efer = s.efer;
  if (changed & PG) {
    if (value & PG) {
      if (efer & eferbit::LME) {
        if (!(s.cr4 & cr4bit::PAE) || s.seg[CS].long_mode()) throw fault_gp();
        if (s.tr.present() && !(s.tr.type() & 8)) throw fault_gp();  // a 16-bit TSS
        efer |= eferbit::LMA;
      }
    } else {
      if (s.mode64() || (s.cr4 & cr4bit::PCIDE)) throw fault_gp();
      efer &= ~eferbit::LMA;
    }
  }
  if (pae_paging(value, s.cr4, efer) && changed & (CD | NW | PG)) {
    u64 pdptes[4];
    load_pdptes(cpu, s.cr3, pdptes);
    std::memcpy(s.pdpte, pdptes, sizeof pdptes);
  }
  s.cr0 = value;
  s.efer = efer;
  cpu.mmu.paging_changed();
}

void write_efer(Vcpu& cpu, u64 value) {
  using namespace eferbit;
  CpuState& s = cpu.state;
  const u64 no_nx = s.msr.misc_enable & miscbit::kNoExecuteDisable ? NXE : 0;
  if (value & (~(SCE | LME | LMA | NXE) | no_nx)) throw fault_gp();
  if ((value ^ s.efer) & LME && (s.cr0 & cr0bit::PG)) throw fault_gp();
  s.efer = (value & ~LMA) | (s.efer & LMA);  // LMA is read-only
  cpu.mmu.paging_changed();
}

Helper find_control_register_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
      if (insn.op[0].kind == OperandKind::cr) return mov_to_cr;
      if (insn.op[1].kind == OperandKind::cr) return mov_from_cr;
      if (insn.op[0].kind == OperandKind::dr) return mov_to_dr;
      if (insn.op[1].kind == OperandKind::dr) return mov_from_dr;
      return nullptr;
    case ZYDIS_MNEMONIC_LMSW:
      return lmsw;
    case ZYDIS_MNEMONIC_CLTS:
      return clts;
    case ZYDIS_MNEMONIC_XGETBV:
      return xgetbv;
    case ZYDIS_MNEMONIC_XSETBV:
      return xsetbv;
    default:
      return nullptr;
  }
}

}  // namespace deja
