#include "decode/insn.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/check.h"
#include "decode/templates.h"

namespace deja {
namespace {

struct Decoders {
  ZydisDecoder d16, d32_stack16, d32, d64;
  Decoders() {
    ZydisDecoderInit(&d16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&d32_stack16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&d32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&d64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (ZydisDecoder* d : {&d16, &d32_stack16, &d32, &d64}) {
      // None of these extensions is in a guest CPU model; their encodings keep the older meaning.
      ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
      ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
      ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
      ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
      ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
    }
  }
};

const ZydisDecoder& decoder_for(CodeSize size, bool stack_big) {
  static const Decoders decoders;
  switch (size) {
    case CodeSize::bits16:
      return decoders.d16;
    case CodeSize::bits32:
      return stack_big ? decoders.d32 : decoders.d32_stack16;
    case CodeSize::bits64:
      return decoders.d64;
  }
  DEJA_UNREACHABLE();
}

Field field_of(ZydisOperandEncoding e) {
  switch (e) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
      return Field::modrm_reg;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
      return Field::modrm_rm;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
      return Field::opcode;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
      return Field::vvvv;
    case ZYDIS_OPERAND_ENCODING_IS4:
      return Field::is4;
    case ZYDIS_OPERAND_ENCODING_NONE:
      return Field::implicit;
    default:
      return Field::immediate;
  }
}

void set_register(ZydisRegister reg, Operand* op) {
  op->reg = static_cast<u8>(ZydisRegisterGetId(reg));
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
      op->kind = OperandKind::gpr;
      // Zydis numbers AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B…
      if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
        op->high = true;
        op->reg = static_cast<u8>(reg - ZYDIS_REGISTER_AH);
      } else if (reg >= ZYDIS_REGISTER_SPL) {
        op->reg = static_cast<u8>(reg - ZYDIS_REGISTER_SPL + 4);
      } else {
        op->reg = static_cast<u8>(reg - ZYDIS_REGISTER_AL);
      }
      break;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      op->kind = OperandKind::gpr;
      break;
    case ZYDIS_REGCLASS_SEGMENT:
      op->kind = OperandKind::seg;
      break;
    case ZYDIS_REGCLASS_CONTROL:
      op->kind = OperandKind::cr;
      break;
    case ZYDIS_REGCLASS_DEBUG:
      op->kind = OperandKind::dr;
      break;
    case ZYDIS_REGCLASS_MMX:
      op->kind = OperandKind::mmx;
      break;
    case ZYDIS_REGCLASS_XMM:
      op->kind = OperandKind::xmm;
      break;
    case ZYDIS_REGCLASS_YMM:
      op->kind = OperandKind::ymm;
      break;
    case ZYDIS_REGCLASS_X87:
      op->kind = OperandKind::st;
      break;
    default:
      op->kind = OperandKind::none;
      break;
  }
}

i8 register_number(ZydisRegister reg) {
  return reg == ZYDIS_REGISTER_NONE ? i8{-1} : static_cast<i8>(ZydisRegisterGetId(reg));
}

bool is_gpr(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return true;
    default:
      return false;
  }
}

void set_memory(const ZydisDecodedInstruction& raw, const ZydisDecodedOperand& z, Insn* insn) {
  insn->has_mem = true;
  MemOperand& m = insn->mem;
  m.rip_relative = z.mem.base == ZYDIS_REGISTER_RIP || z.mem.base == ZYDIS_REGISTER_EIP;
  m.base = m.rip_relative ? i8{-1} : register_number(z.mem.base);
  m.index = register_number(z.mem.index);
  m.vector_index = m.index >= 0 && !is_gpr(z.mem.index);
  m.scale = z.mem.scale ? z.mem.scale : 1;
  m.segment = static_cast<u8>(ZydisRegisterGetId(z.mem.segment));
  m.disp = z.mem.disp.has_displacement ? z.mem.disp.value : 0;
  // A SIB byte whose base is 101b means a displacement alone when ModRM.mod is 0, whatever REX.B says; with
  // 32-bit addresses Zydis 4.0 takes it for R13.
  if ((raw.attributes & ZYDIS_ATTRIB_HAS_SIB) && raw.raw.sib.base == 5 && raw.raw.modrm.mod == 0) {
    m.base = -1;
    m.disp = raw.raw.disp.value;
  }
  m.address_size = insn->address_size;
}

void set_prefixes(const ZydisDecodedInstruction& z, Insn* insn) {
  Insn& i = *insn;
  i.lock = z.attributes & ZYDIS_ATTRIB_HAS_LOCK;
  for (unsigned k = 0; k < z.raw.prefix_count; ++k) {
    const u8 p = z.raw.prefixes[k].value;
    if (p == 0xf3) i.rep = true, i.repne = false;
    if (p == 0xf2) i.repne = true, i.rep = false;
    if (p == 0x66) i.prefix66 = true;
    if (p == 0xf0) i.lock = true;
    if (z.raw.prefixes[k].type == ZYDIS_PREFIX_TYPE_MANDATORY) i.mandatory_prefix = p;
  }
  if (z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
    i.rex_w = z.raw.vex.W;
    i.rex_r = !z.raw.vex.R;  // Zydis keeps R, X, B and vvvv as encoded: inverted
    i.rex_x = !z.raw.vex.X;
    i.rex_b = !z.raw.vex.B;
    i.vex_l = z.raw.vex.L;
    i.vex_vvvv = z.raw.vex.vvvv ^ 15;
    i.vex_pp = z.raw.vex.pp;
  } else if (z.attributes & ZYDIS_ATTRIB_HAS_REX) {
    i.has_rex = true;
    i.rex_w = z.raw.rex.W;
    i.rex_r = z.raw.rex.R;
    i.rex_x = z.raw.rex.X;
    i.rex_b = z.raw.rex.B;
  }
}

// All but prefixes, flags and operands.
void set_encoding(const ZydisDecodedInstruction& z, const u8* code, CodeSize code_size, Insn* insn) {
  Insn& i = *insn;
  i.mnemonic = z.mnemonic;
  i.length = z.length;
  std::memcpy(i.bytes, code, z.length);
  i.code_size = code_size;
  i.operand_size = static_cast<u8>(z.operand_width / 8);
  i.address_size = static_cast<u8>(z.address_width / 8);
  i.stack_size = static_cast<u8>(z.stack_width / 8);
  i.isa_ext = static_cast<u8>(z.meta.isa_ext);
  i.isa_set = static_cast<u16>(z.meta.isa_set);
  i.category = static_cast<u8>(z.meta.category);
  i.map = static_cast<u8>(z.opcode_map);
  i.opcode = z.opcode;
  i.encoding = static_cast<u8>(z.encoding);
  if (z.attributes & ZYDIS_ATTRIB_HAS_MODRM) {
    i.has_modrm = true;
    i.modrm_offset = z.raw.modrm.offset;
    i.modrm = code[z.raw.modrm.offset];
  }
  i.opcode_offset = z.raw.prefix_count;  // REX included, also where another prefix makes it void
  i.imm_offset = z.raw.imm[0].size ? z.raw.imm[0].offset : u8{0};
  i.imm_bytes = static_cast<u8>((z.raw.imm[0].size + z.raw.imm[1].size) / 8);
}

void set_flags(const ZydisAccessedFlags& f, Insn* insn) {
  constexpr u32 kStatus = flag::kStatus;
  insn->flags_read = f.tested & kStatus;
  insn->flags_written = (f.modified | f.set_0 | f.set_1) & kStatus;
  insn->flags_undefined = f.undefined & kStatus;
}

bool is_hidden(const ZydisDecodedOperand& o) { return o.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN; }
bool is_read(const ZydisDecodedOperand& o) { return o.actions & ZYDIS_OPERAND_ACTION_MASK_READ; }
bool is_written(const ZydisDecodedOperand& o) { return o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE; }

// Which general registers the operand uses, be it hidden; and the memory operand.
void note_registers(const ZydisDecodedInstruction& z, const ZydisDecodedOperand& o, Insn* insn,
                    FixedRegisters* fixed) {
  Insn& i = *insn;
  if (o.type == ZYDIS_OPERAND_TYPE_REGISTER && is_gpr(o.reg.value)) {
    Operand r;
    set_register(o.reg.value, &r);
    const u16 bit = static_cast<u16>(1 << r.reg);
    if (is_read(o)) i.gpr_read |= bit;
    if (is_written(o)) i.gpr_written |= bit;
    if (fixed && (is_hidden(o) || o.encoding == ZYDIS_OPERAND_ENCODING_NONE)) {
      if (is_read(o)) fixed->read |= bit;
      if (is_written(o)) fixed->written |= bit;
    }
    if (r.reg == RCX && o.encoding == ZYDIS_OPERAND_ENCODING_NONE) i.implicit_rcx = true;
  }
  if (o.type != ZYDIS_OPERAND_TYPE_MEMORY) return;
  if (!is_hidden(o)) set_memory(z, o, &i);
  for (const ZydisRegister r : {o.mem.base, o.mem.index}) {
    if (r == ZYDIS_REGISTER_NONE || !is_gpr(r)) continue;
    const u16 bit = static_cast<u16>(1 << ZydisRegisterGetId(r));
    i.gpr_read |= bit;
    if (fixed && (is_hidden(o) || !i.has_modrm)) fixed->read |= bit;
  }
}

// The first immediate goes to imm, a second one to imm2.
void set_operand(const ZydisDecodedOperand& o, bool first_immediate, Insn* insn) {
  Insn& i = *insn;
  Operand& op = i.op[i.operand_count++];
  op.field = field_of(o.encoding);
  op.size = static_cast<u8>(o.size / 8);
  op.read = is_read(o);
  op.written = is_written(o);
  switch (o.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      set_register(o.reg.value, &op);
      break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
      op.kind = OperandKind::mem;
      if (o.mem.type == ZYDIS_MEMOP_TYPE_AGEN) op.size = 0;
      break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      op.kind = OperandKind::imm;
      op.is_signed = o.imm.is_signed;
      if (first_immediate) {
        i.imm = o.imm.value.s;
        i.is_relative = o.imm.is_relative;
      } else {
        i.imm2 = o.imm.value.u;
      }
      break;
    case ZYDIS_OPERAND_TYPE_POINTER:
      op.kind = OperandKind::far_ptr;
      i.imm = static_cast<i64>(o.ptr.offset);
      i.imm2 = o.ptr.segment;
      break;
    default:
      break;
  }
}

}  // namespace

DecodeStatus decode(const u8* code, std::size_t size, CodeSize code_size, bool stack_big, Insn* out) {
  if (code_size != CodeSize::bits64) return decode_by_zydis(code, size, code_size, stack_big, out);
  static thread_local DecodeTemplates templates;
  return templates.decode(code, size, out);
}

DecodeStatus decode_by_zydis(const u8* code, std::size_t size, CodeSize code_size, bool stack_big, Insn* out,
                             FixedRegisters* fixed) {
  ZydisDecodedInstruction z;
  ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
  const ZyanStatus status = ZydisDecoderDecodeFull(&decoder_for(code_size, stack_big), code, size, &z, ops);
  if (!ZYAN_SUCCESS(status)) {
    if (status == ZYDIS_STATUS_NO_MORE_DATA)
      return size >= kMaxInsnBytes ? DecodeStatus::too_long : DecodeStatus::truncated;
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return DecodeStatus::too_long;
    return DecodeStatus::invalid;
  }
  *out = Insn{};
  Insn& i = *out;
  set_encoding(z, code, code_size, &i);
  set_prefixes(z, &i);
  if (z.cpu_flags) set_flags(*z.cpu_flags, &i);
  bool first_immediate = true;
  for (unsigned k = 0; k < z.operand_count; ++k) {
    note_registers(z, ops[k], &i, fixed);
    if (is_hidden(ops[k]) || i.operand_count >= std::size(i.op)) continue;
    set_operand(ops[k], first_immediate, &i);
    if (ops[k].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) first_immediate = false;
  }
  // MOVSXD r16, r/m16 (SDM vol. 2B): Zydis 4.0 gives the source 32 bits.
  if (i.mnemonic == ZYDIS_MNEMONIC_MOVSXD) i.op[1].size = std::min(i.op[0].size, u8{4});
  return DecodeStatus::ok;
}

std::string disassemble(const u8* code, std::size_t size, CodeSize code_size, u64 address) {
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  ZydisDecodedInstruction z;
  ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder_for(code_size, true), code, size, &z, ops)))
    return "(bad)";
  char buffer[160];
  if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &z, ops, z.operand_count_visible, buffer,
                                                    sizeof buffer, address, nullptr)))
    return "(bad)";
  return buffer;
}

}  // namespace deja
