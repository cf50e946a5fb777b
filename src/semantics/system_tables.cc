// Descriptor-table registers and the instructions that look at descriptors: LGDT, SGDT, LLDT, LTR, LAR, LSL,
// VERR, VERW, ARPL and kin (SDM vol. 3A 2.8, 5.10).
#include "semantics/system.h"

namespace deja {
namespace {

// User-mode instruction prevention (SDM vol. 3A 2.5).
void check_umip(const CpuState& s) {
  if ((s.cr4 & cr4bit::UMIP) && s.cpl() != 0) throw fault_gp();
}

void require_protected_mode(const CpuState& s) {
  if (!s.protected_mode() || s.v8086()) throw fault_ud();
}

void store_table(Vcpu& cpu, const Insn& insn, const DescriptorTable& table) {
  check_umip(cpu.state);
  const unsigned base_size = cpu.state.mode64() ? 8 : 4;
  const Gva address = operand_address(cpu, insn, 2 + base_size, Access::write);
  u8 bytes[10];
  std::memcpy(bytes, &table.limit, 2);
  std::memcpy(bytes + 2, &table.base, base_size);
  cpu.mmu.write_bytes(address, bytes, 2 + base_size);
}

DescriptorTable load_table(Vcpu& cpu, const Insn& insn) {
  require_cpl0(cpu.state);
  const bool mode64 = cpu.state.mode64();
  const unsigned base_size = mode64 ? 8 : 4;
  const Gva address = operand_address(cpu, insn, 2 + base_size, Access::read);
  u8 bytes[10];
  cpu.mmu.read_bytes(address, bytes, 2 + base_size);
  DescriptorTable table;
  std::memcpy(&table.limit, bytes, 2);
  std::memcpy(&table.base, bytes + 2, base_size);
  // A 16-bit operand size loads a 24-bit base, as the 80286 did.
  if (!mode64 && insn.operand_size == 2) table.base &= 0xffffff;
  if (mode64 && !is_canonical(table.base, cpu.model.linear_bits)) throw fault_gp();
  return table;
}

void sgdt(Vcpu& cpu, const Insn& insn) { store_table(cpu, insn, cpu.state.gdtr); }
void sidt(Vcpu& cpu, const Insn& insn) { store_table(cpu, insn, cpu.state.idtr); }
void lgdt(Vcpu& cpu, const Insn& insn) { cpu.state.gdtr = load_table(cpu, insn); }
void lidt(Vcpu& cpu, const Insn& insn) { cpu.state.idtr = load_table(cpu, insn); }

void sldt(Vcpu& cpu, const Insn& insn) {
  require_protected_mode(cpu.state);
  check_umip(cpu.state);
  write_operand(cpu, insn, 0, cpu.state.ldtr.selector);
}

void str(Vcpu& cpu, const Insn& insn) {
  require_protected_mode(cpu.state);
  check_umip(cpu.state);
  write_operand(cpu, insn, 0, cpu.state.tr.selector);
}

void smsw(Vcpu& cpu, const Insn& insn) {
  check_umip(cpu.state);
  write_operand(cpu, insn, 0, cpu.state.cr0);
}

// The 16-byte form that LDT and TSS descriptors have in IA-32e mode.
void extend_descriptor(Vcpu& cpu, u16 selector, Descriptor* d) {
  if (!cpu.state.long_mode_active()) return;
  read_descriptor_high(cpu, selector, d, kGP);
  if (d->high >> 40 & 0x1f) throw selector_fault(kGP, selector);
  if (!is_canonical(d->base(), cpu.model.linear_bits)) throw selector_fault(kGP, selector);
  d->high = static_cast<u32>(d->high);
}

void lldt(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_protected_mode(s);
  require_cpl0(s);
  const u16 selector = static_cast<u16>(read_operand(cpu, insn, 0));
  if (null_selector(selector)) {
    s.ldtr = SegmentRegister{.selector = selector};
    return;
  }
  if (selector & 4) throw selector_fault(kGP, selector);
  Descriptor d = read_descriptor(cpu, selector, kGP);
  if (!d.system() || d.type() != kLdt) throw selector_fault(kGP, selector);
  if (!d.present()) throw selector_fault(kNP, selector);
  extend_descriptor(cpu, selector, &d);
  s.ldtr = make_segment(selector, d);
}

void ltr(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_protected_mode(s);
  require_cpl0(s);
  const u16 selector = static_cast<u16>(read_operand(cpu, insn, 0));
  if (null_selector(selector)) throw fault_gp();
  if (selector & 4) throw selector_fault(kGP, selector);
  Descriptor d = read_descriptor(cpu, selector, kGP);
  const bool available = d.type() == kTssAvailable || (d.type() == kTss16Available && !s.long_mode_active());
  if (!d.system() || !available) throw selector_fault(kGP, selector);
  if (!d.present()) throw selector_fault(kNP, selector);
  extend_descriptor(cpu, selector, &d);
  constexpr u64 kBusy = u64{2} << 40;
  d.raw |= kBusy;
  cpu.mmu.write<u8>(d.address + 5, static_cast<u8>(d.raw >> 40));
  s.tr = make_segment(selector, d);
}

// Finds the descriptor that LAR, LSL, VERR and VERW are asked about; false when it is not visible at this CPL
// and RPL. `system_types`: bit per acceptable system type.
bool find_visible_descriptor(Vcpu& cpu, u16 selector, u32 system_types, Descriptor* d) {
  if (null_selector(selector) || !find_descriptor(cpu, selector, d)) return false;
  if (d->system() && !(system_types >> d->type() & 1)) return false;
  return d->conforming_code() || (d->dpl() >= cpu.state.cpl() && d->dpl() >= (selector & 3u));
}

void set_zf(CpuState& s, bool value) { s.rflags = (s.rflags & ~flag::ZF) | (value ? flag::ZF : 0); }

void lar(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_protected_mode(s);
  const u16 selector = static_cast<u16>(read_operand(cpu, insn, 1));
  // SDM vol. 2A tables 3-53 and 3-54.
  const u32 types = s.long_mode_active()
                        ? 1 << kLdt | 1 << kTssAvailable | 1 << kTssBusy | 1 << kCallGate
                        : 1 << kTss16Available | 1 << kLdt | 1 << kTss16Busy | 1 << kCallGate16 |
                              1 << kTaskGate | 1 << kTssAvailable | 1 << kTssBusy | 1 << kCallGate;
  Descriptor d;
  const bool visible = find_visible_descriptor(cpu, selector, types, &d);
  if (visible) write_operand(cpu, insn, 0, d.raw >> 32 & (insn.op[0].size == 2 ? 0xff00 : 0xf0ff00));
  set_zf(s, visible);
}

void lsl(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  require_protected_mode(s);
  const u16 selector = static_cast<u16>(read_operand(cpu, insn, 1));
  const u32 types = s.long_mode_active() ? 1 << kLdt | 1 << kTssAvailable | 1 << kTssBusy
                                         : 1 << kTss16Available | 1 << kLdt | 1 << kTss16Busy |
                                               1 << kTssAvailable | 1 << kTssBusy;
  Descriptor d;
  const bool visible = find_visible_descriptor(cpu, selector, types, &d);
  if (visible) write_operand(cpu, insn, 0, d.limit());
  set_zf(s, visible);
}

void verr(Vcpu& cpu, const Insn& insn) {
  require_protected_mode(cpu.state);
  Descriptor d;
  const u16 selector = static_cast<u16>(read_operand(cpu, insn, 0));
  set_zf(cpu.state, find_visible_descriptor(cpu, selector, 0, &d) && d.readable());
}

void verw(Vcpu& cpu, const Insn& insn) {
  require_protected_mode(cpu.state);
  Descriptor d;
  const u16 selector = static_cast<u16>(read_operand(cpu, insn, 0));
  set_zf(cpu.state, find_visible_descriptor(cpu, selector, 0, &d) && d.writable_data());
}

void arpl(Vcpu& cpu, const Insn& insn) {
  require_protected_mode(cpu.state);
  const u16 target = static_cast<u16>(read_operand(cpu, insn, 0));
  const u16 source = static_cast<u16>(read_operand(cpu, insn, 1));
  const bool raise = (target & 3) < (source & 3);
  if (raise) write_operand(cpu, insn, 0, (target & ~3u) | (source & 3u));
  set_zf(cpu.state, raise);
}

}  // namespace

Helper find_table_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_SGDT:
      return sgdt;
    case ZYDIS_MNEMONIC_SIDT:
      return sidt;
    case ZYDIS_MNEMONIC_LGDT:
      return lgdt;
    case ZYDIS_MNEMONIC_LIDT:
      return lidt;
    case ZYDIS_MNEMONIC_SLDT:
      return sldt;
    case ZYDIS_MNEMONIC_STR:
      return str;
    case ZYDIS_MNEMONIC_SMSW:
      return smsw;
    case ZYDIS_MNEMONIC_LLDT:
      return lldt;
    case ZYDIS_MNEMONIC_LTR:
      return ltr;
    case ZYDIS_MNEMONIC_LAR:
      return lar;
    case ZYDIS_MNEMONIC_LSL:
      return lsl;
    case ZYDIS_MNEMONIC_VERR:
      return verr;
    case ZYDIS_MNEMONIC_VERW:
      return verw;
    case ZYDIS_MNEMONIC_ARPL:
      return arpl;
    default:
      return nullptr;
  }
}

}  // namespace deja
