// The guest instruction carried over to the host: same opcode and immediate, registers renamed (guest RCX
// stands in host r8, guest r8-r11 in memory slots), memory operand replaced by [mem_base_ + r10 + mem_disp_].
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "translate/classify.h"
#include "translate/translator.h"

namespace deja {
namespace {

bool is_vector_isa(u8 ext) {
  switch (ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_LZCNT:
      return false;
    default:
      return true;
  }
}

// Whether the register operands that it writes, and does not read, are written whatever happens. Of the
// others some write under a condition, or leave a destination of a zero source alone (BSF, BSR).
bool always_writes(const Insn& i) {
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT:
      return true;
    default:
      return false;
  }
}

// Instructions of the one-byte map that mean the same with either operand in memory.
bool works_on_slots(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_XOR:
      return true;
    default:
      return false;
  }
}

}  // namespace

// An instruction on its way to the host: where its operands stand while it runs.
struct Translator::CarriedOp {
  bool mem = false;
  // AH..BH can be encoded only without REX: then every register must be a legacy one under its own number,
  // with guest RCX copied to host rcx around the instruction.
  bool norex = false;
  bool guest_rcx = false;  // guest RCX is in host rcx, too
  bool folded = false;     // the memory operand is at [r9], and r10 is free
  unsigned swap = 0;       // else, of norex: at [swap], whose value is in r9 meanwhile; 0: at [rcx]

  // Where each encoded general register goes.
  struct Place {
    int guest = -1;
    unsigned host = 0;
    bool read = false, written = false;
    bool in_slot() const { return guest >= R8 && guest <= R11; }
  };
  Place places[4];
  unsigned place_count = 0;

  Place* find(int guest) {
    for (unsigned j = 0; j < place_count; ++j)
      if (places[j].guest == guest) return &places[j];
    return nullptr;
  }
  unsigned host_of(const Operand& o) {
    if (o.high) return o.reg + 4u;
    const Place* const p = find(o.reg);
    DEJA_CHECK(p, "general register {} has no place", o.reg);
    return p->host;
  }
};

// The values of what an encoding has fields for.
struct Translator::EncodedFields {
  unsigned reg, rm, vvvv;
  unsigned opcode_reg = 0;
  bool has_opcode_reg = false, force_rex = false;
  unsigned bit_r, bit_x, bit_b;  // upper bits, as in REX and, inverted, in VEX
};

void Translator::emit_op(const Insn& i) {
  if (emit_on_slots(i)) return;
  CarriedOp op = place_operands(i);
  // Intel's CPUs raise #GP for a misaligned operand of the SHA instructions, AMD's take it. PXOR raises it
  // everywhere, and a second one undoes the first.
  if (op.mem && i.isa_ext == ZYDIS_ISA_EXT_SHA)
    for (int turn = 0; turn < 2; ++turn) {
      e_.b(0x66, mem_rex(i.op[0].reg, false)), e_.b(0x0f, 0xef);
      emit_mem(i.op[0].reg);
    }
  assign_registers(op);
  emit_encoding(i, op);
  write_back(i, op);
}

Translator::CarriedOp Translator::place_operands(const Insn& i) {
  CarriedOp op;
  op.guest_rcx = i.implicit_rcx;
  for (unsigned k = 0; k < i.operand_count; ++k) {
    op.mem |= i.has_mem && i.op[k].kind == OperandKind::mem;
    op.norex |= i.op[k].kind == OperandKind::gpr && i.op[k].high;
  }
  for (unsigned k = 0; k < i.operand_count; ++k) {
    const Operand& o = i.op[k];
    if (o.kind != OperandKind::gpr) continue;
    op.guest_rcx |= op.norex && o.reg == RCX;
    if (o.field == Field::implicit) continue;
    CarriedOp::Place* p = op.find(o.reg);
    if (!p) {
      p = &op.places[op.place_count++];
      p->guest = o.reg;
    }
    // A write that leaves part of the register as it is needs it in place.
    p->read |= o.read || o.size < 4 || !always_writes(i);
    p->written |= o.written;
  }
  return op;
}

void Translator::assign_registers(CarriedOp& op) {
  unsigned need = 0;  // guest registers in slots
  for (unsigned j = 0; j < op.place_count; ++j) need += op.places[j].in_slot();
  // Scratch registers for them. The memory operand can be folded into r9 to free r10.
  unsigned scratch[3];
  unsigned scratch_count = 0;
  if (!op.mem) scratch[scratch_count++] = HR9;
  if (!op.guest_rcx) scratch[scratch_count++] = HRCX;
  if (op.mem && need > scratch_count) {
    e_.lea(HR9, static_cast<int>(mem_base_), HR10, 1, mem_disp_);
    op.folded = true;
  }
  if (!op.mem || op.folded) scratch[scratch_count++] = HR10;
  DEJA_CHECK(need <= scratch_count, "{} slot registers in one instruction", need);
  unsigned next_scratch = 0;
  for (unsigned j = 0; j < op.place_count; ++j) {
    CarriedOp::Place& p = op.places[j];
    const unsigned g = static_cast<unsigned>(p.guest);
    if (p.in_slot()) {
      p.host = scratch[next_scratch++];
      if (p.host == HR10) lose_r10();
      if (p.read) e_.mov_load(p.host, gpr_slot(g));
    } else if (g == RCX) {
      p.host = op.norex ? HRCX : HR8;
    } else {
      p.host = g;
    }
  }
  // Memory base for instructions that cannot have REX.
  if (op.norex && op.mem && op.guest_rcx) {
    // The address takes the place of RBX (RAX may be implied by CMPXCHG) for the length of the instruction.
    e_.lea(HR9, static_cast<int>(mem_base_), HR10, 1, mem_disp_);
    op.swap = op.find(RBX) ? HRSI : HRBX;
    exchange_with_r9(op.swap);
  } else if (op.norex && op.mem) {
    e_.lea(HRCX, static_cast<int>(mem_base_), HR10, 1, mem_disp_);
  }
  if (op.guest_rcx) e_.mov(HRCX, HR8);
}

void Translator::emit_encoding(const Insn& i, CarriedOp& op) {
  EncodedFields f{.reg = static_cast<unsigned>(i.rex_r) << 3 | i.modrm_reg(),
                  .rm = static_cast<unsigned>(i.rex_b) << 3 | i.modrm_rm(),
                  .vvvv = i.vex_vvvv};
  for (unsigned k = 0; k < i.operand_count; ++k) {
    const Operand& o = i.op[k];
    // XCHG rAX, r encodes rAX implicitly and r in the opcode.
    if (o.kind != OperandKind::gpr || o.field == Field::implicit) continue;
    const unsigned h = op.host_of(o);
    if (o.size == 1 && !o.high && h >= 4 && h < 8) f.force_rex = true;
    if (o.field == Field::modrm_reg) f.reg = h;
    if (o.field == Field::modrm_rm) f.rm = h;
    if (o.field == Field::vvvv) f.vvvv = h;
    if (o.field == Field::opcode) f.opcode_reg = h, f.has_opcode_reg = true;
  }
  const bool mem_rexed = op.mem && !op.norex;
  f.bit_r = i.has_modrm ? f.reg >> 3 : 0;
  f.bit_x = mem_rexed && !op.folded ? 1 : 0;
  f.bit_b = mem_rexed          ? (op.folded ? 1 : mem_base_ >> 3)
            : i.has_modrm      ? (op.mem ? 0 : f.rm >> 3)
            : f.has_opcode_reg ? f.opcode_reg >> 3
                               : 0;
  if (i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
    e_.b(0xc4, static_cast<u8>((f.bit_r ^ 1) << 7 | (f.bit_x ^ 1) << 6 | (f.bit_b ^ 1) << 5 | i.map));
    e_.b(static_cast<u8>((i.rex_w ? 0x80 : 0) | (~f.vvvv & 15) << 3 | i.vex_l << 2 | i.vex_pp), i.opcode);
    emit_modrm(i, op, f);
  } else {
    emit_legacy_encoding(i, op, f);
  }
  const unsigned imm = i.imm_offset ? i.imm_offset : i.length;
  for (unsigned k = imm; k < i.length; ++k) e_.b(i.bytes[k]);
}

void Translator::emit_modrm(const Insn& i, const CarriedOp& op, const EncodedFields& f) {
  if (!i.has_modrm) return;
  if (!op.mem) {
    e_.b(static_cast<u8>(0xc0 | (f.reg & 7) << 3 | (f.rm & 7)));
  } else if (op.norex) {
    const unsigned base = op.swap ? op.swap : static_cast<unsigned>(HRCX);
    e_.b(static_cast<u8>((f.reg & 7) << 3 | base));  // rcx, rbx, rsi: no SIB, no displacement needed
  } else if (op.folded) {
    e_.b(static_cast<u8>((f.reg & 7) << 3 | 1));  // [r9]
  } else {
    emit_mem(f.reg);
  }
}

void Translator::emit_legacy_encoding(const Insn& i, const CarriedOp& op, const EncodedFields& f) {
  u8 mandatory = i.mandatory_prefix;
  if (!options_.avx_model && (i.mnemonic == ZYDIS_MNEMONIC_TZCNT || i.mnemonic == ZYDIS_MNEMONIC_LZCNT))
    mandatory = 0;  // without BMI1/LZCNT these bytes are BSF and BSR
  // Opcodes that mean something else in 64-bit mode.
  u8 opcode = i.opcode;
  const bool one_byte_map = i.map == ZYDIS_OPCODE_MAP_DEFAULT;
  const bool incdec = one_byte_map && i.code_size != CodeSize::bits64 && opcode >= 0x40 && opcode <= 0x4f;
  if (one_byte_map && opcode == 0x82) opcode = 0x80;
  // MOVSXD that extends nothing is MOV: how much it reads with 16-bit operands depends on the CPU's maker.
  if (i.mnemonic == ZYDIS_MNEMONIC_MOVSXD && i.op[0].size <= 4) opcode = 0x8b;

  bool prefix66 = i.prefix66;
  if (i.code_size == CodeSize::bits16 && !is_vector_isa(i.isa_ext)) prefix66 = !prefix66;
  if (prefix66) e_.b(0x66);
  if (mandatory == 0xf2 || mandatory == 0xf3) e_.b(mandatory);
  u8 rex = static_cast<u8>(0x40 | (i.rex_w ? 8 : 0) | f.bit_r << 2 | f.bit_x << 1 | f.bit_b);
  if (incdec) rex = static_cast<u8>(0x40 | f.opcode_reg >> 3);
  if (rex != 0x40 || f.force_rex) {
    DEJA_CHECK(!op.norex, "high-byte register with REX");
    e_.b(rex);
  }
  if (incdec) {
    e_.b(0xff, static_cast<u8>(0xc0 | (opcode >= 0x48 ? 1 << 3 : 0) | (f.opcode_reg & 7)));
    return;
  }
  if (!one_byte_map) e_.b(0x0f);
  if (i.map == ZYDIS_OPCODE_MAP_0F38) e_.b(0x38);
  if (i.map == ZYDIS_OPCODE_MAP_0F3A) e_.b(0x3a);
  if (f.has_opcode_reg) opcode = static_cast<u8>((opcode & 0xf8) | (f.opcode_reg & 7));
  e_.b(opcode);
  emit_modrm(i, op, f);
}

void Translator::write_back(const Insn& i, CarriedOp& op) {
  if (op.swap) exchange_with_r9(op.swap);
  // An explicit RCX operand of an instruction that may have REX is in r8 already.
  const bool in_rcx = op.guest_rcx && (op.norex || !op.find(RCX));
  if (in_rcx && (i.gpr_written & (1 << RCX))) e_.mov(HR8, HRCX);
  for (unsigned j = 0; j < op.place_count; ++j)
    if (op.places[j].written) store_gpr(static_cast<unsigned>(op.places[j].guest), op.places[j].host);
}

void Translator::exchange_with_r9(unsigned host) { e_.b(0x49, 0x87, static_cast<u8>(0xc1 | host << 3)); }

// Guest r8-r11 live in memory: an instruction on one of them can name its slot as its memory operand.
bool Translator::emit_on_slots(const Insn& i) {
  if (i.has_mem || i.code_size != CodeSize::bits64 || i.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
      i.map != ZYDIS_OPCODE_MAP_DEFAULT || !i.has_modrm || i.implicit_rcx || i.prefix66 ||
      i.operand_count > 2)
    return false;
  const Operand *slot = nullptr, *reg = nullptr;
  for (unsigned k = 0; k < i.operand_count; ++k) {
    const Operand& o = i.op[k];
    if (o.kind == OperandKind::imm) continue;
    if (o.kind != OperandKind::gpr || o.high || o.size < 4) return false;
    if (o.field == Field::modrm_rm)
      slot = &o;
    else if (o.field == Field::modrm_reg)
      reg = &o;
    else
      return false;
  }
  const auto in_slot = [](const Operand& o) { return o.reg >= R8 && o.reg <= R11; };
  u8 opcode = i.opcode;
  if (slot && reg && in_slot(*reg)) {
    // The same with the roles of ModRM's fields exchanged: the opcode's direction bit; TEST has none.
    if (opcode != 0x85) {
      if (opcode >= 0x40 && opcode != 0x89 && opcode != 0x8b) return false;
      opcode ^= 2;
    }
    std::swap(slot, reg);
  }
  if (!slot || !in_slot(*slot) || (reg && in_slot(*reg))) return false;
  if (slot->written && slot->size != 8) return false;  // the upper half would stay
  if (!works_on_slots(i.mnemonic)) return false;
  const unsigned host = !reg ? i.modrm_reg() : reg->reg == RCX ? static_cast<unsigned>(HR8) : reg->reg;
  const u8 rex = static_cast<u8>(0x40 | (i.rex_w ? 8 : 0) | (host >> 3) << 2);
  if (rex != 0x40) e_.b(rex);
  e_.b(opcode);
  const unsigned imm = i.imm_offset ? i.imm_offset : i.length;
  e_.rip(host, gpr_slot(slot->reg), i.length - imm);
  for (unsigned k = imm; k < i.length; ++k) e_.b(i.bytes[k]);
  return true;
}

}  // namespace deja
