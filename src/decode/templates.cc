#include "decode/templates.h"

#include <cstring>

namespace deja {

// Prefixes, opcode and the place of ModRM.
struct DecodeTemplates::Head {
  u8 prefix = 0;  // index of kPrefixBytes plus one, or 0
  u8 rex = 0;
  u8 map = 0;  // 0, 0F, 0F 38, 0F 3A
  u8 opcode = 0;
  u8 opcode_offset = 0;  // prefixes, with REX
  u8 next = 0;           // what follows the opcode
  u8 modrm = 0;          // if there is one
};

struct DecodeTemplates::Template {
  u32 key = ~u32{0};
  FixedRegisters fixed;
  Insn insn;
};

namespace {

constexpr u8 kPrefixBytes[] = {0x66, 0xf2, 0xf3, 0x64, 0x65, 0xf0};

// Opcodes whose meaning depends on more than a template's key, or that are encoded in a way of their own.
bool stands_apart(u8 map, u8 opcode) {
  if (map == 0)
    return opcode == 0x8c || opcode == 0x8e || opcode == 0x8f || opcode == 0x90 ||  // segments, XOP, NOP
           (opcode >= 0xa0 && opcode <= 0xa3) ||                                    // absolute offsets
           opcode == 0x62 || opcode == 0xc4 || opcode == 0xc5 ||                    // EVEX, VEX
           opcode == 0xc8 ||                                                        // ENTER: two immediates
           (opcode >= 0xd8 && opcode <= 0xdf);                                      // x87
  if (map == 1)
    return opcode <= 0x01 || (opcode >= 0x0d && opcode <= 0x0f) || (opcode >= 0x18 && opcode <= 0x1e) ||
           (opcode >= 0x20 && opcode <= 0x27) || opcode == 0xae || opcode == 0xc7;
  return false;
}

bool well_known(const Insn& i) {
  switch (i.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
      break;
    default:
      return false;
  }
  return i.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

bool by_modrm_or_opcode(const Operand& o) {
  return o.field == Field::modrm_reg || o.field == Field::modrm_rm || o.field == Field::opcode;
}

// Whether a register operand follows from ModRM, opcode and REX alone.
bool follows(const Operand& o) {
  return o.kind == OperandKind::gpr || o.kind == OperandKind::xmm || o.kind == OperandKind::mmx;
}

i64 sign_extended(const u8* at, unsigned bytes) {
  u64 value = 0;
  std::memcpy(&value, at, bytes);
  const unsigned unused = 64 - 8 * bytes;
  return static_cast<i64>(value << unused) >> unused;
}

}  // namespace

DecodeTemplates::DecodeTemplates() : templates_(std::make_unique<Template[]>(kTemplates)) {}
DecodeTemplates::~DecodeTemplates() = default;

bool DecodeTemplates::parse(const u8* code, std::size_t size, Head* h) {
  if (size < 15) return false;  // near a page's end: nothing below looks past the bytes given
  unsigned at = 0;
  for (unsigned k = 0; k < std::size(kPrefixBytes); ++k)
    if (code[0] == kPrefixBytes[k]) h->prefix = static_cast<u8>(k + 1), at = 1;
  if ((code[at] & 0xf0) == 0x40) h->rex = code[at++];
  h->opcode_offset = static_cast<u8>(at);
  if (code[at] == 0x0f) {
    ++at;
    h->map = 1;
    if (code[at] == 0x38 || code[at] == 0x3a) h->map = code[at++] == 0x38 ? 2 : 3;
  }
  h->opcode = code[at++];
  h->next = static_cast<u8>(at);
  h->modrm = code[at];
  return true;
}

u32 DecodeTemplates::key_of(const Head& h, Shape shape) {
  u32 key =
      u32{h.opcode} | u32{h.map} << 8 | u32{h.prefix} << 10 | u32{h.rex & 8u} << 10 | u32{h.rex != 0} << 14;
  if (shape >= Shape::operands) key |= u32{h.modrm >= 0xc0} << 15;
  if (shape == Shape::group) key |= u32{h.modrm & 0x38u} << 13;
  return key;
}

DecodeTemplates::Shape DecodeTemplates::shape_of(const Head& h, const Insn& i) {
  // Other prefixes than parse() knows are opcodes to it.
  if (stands_apart(h.map, h.opcode) || i.opcode_offset != h.opcode_offset) return Shape::never;
  if (!well_known(i)) return Shape::unknown;
  bool reg = false;
  for (unsigned k = 0; k < i.operand_count; ++k) {
    const Operand& o = i.op[k];
    if (o.kind == OperandKind::far_ptr) return Shape::never;
    if (o.kind == OperandKind::mem || o.kind == OperandKind::imm) continue;
    if (by_modrm_or_opcode(o) && !follows(o)) return Shape::never;
    reg |= o.field == Field::modrm_reg;
  }
  if (i.has_mem && !i.has_modrm) return Shape::never;
  if (!i.has_modrm) return Shape::no_modrm;
  return reg ? Shape::operands : Shape::group;
}

bool DecodeTemplates::fill_in(const Template& t, const Head& h, const u8* code, std::size_t size, Insn* out) {
  *out = t.insn;
  Insn& i = *out;
  unsigned at = h.next;
  const unsigned rex_r = h.rex >> 2 & 1, rex_x = h.rex >> 1 & 1, rex_b = h.rex & 1;
  i.rex_r = rex_r;
  i.rex_x = rex_x;
  i.rex_b = rex_b;
  i.gpr_read = t.fixed.read;
  i.gpr_written = t.fixed.written;
  if (i.has_modrm) {
    i.modrm = h.modrm;
    ++at;
    const unsigned mod = h.modrm >> 6, rm = h.modrm & 7;
    if (mod != 3) {
      MemOperand& m = i.mem;
      unsigned disp_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
      m.base = static_cast<i8>(rex_b << 3 | rm);
      m.index = -1;
      m.scale = 1;
      m.rip_relative = false;
      if (rm == 4) {
        const u8 sib = code[at++];
        const unsigned index = rex_x << 3 | (sib >> 3 & 7u), base = sib & 7u;
        m.base = static_cast<i8>(rex_b << 3 | base);
        if (index != 4) {
          m.index = static_cast<i8>(index);
          m.scale = static_cast<u8>(1u << (sib >> 6));
        }
        if (base == 5 && mod == 0) m.base = -1, disp_bytes = 4;
      } else if (rm == 5 && mod == 0) {
        m.base = -1;
        m.rip_relative = true;
        disp_bytes = 4;
      }
      m.disp = disp_bytes ? sign_extended(code + at, disp_bytes) : 0;
      at += disp_bytes;
      if (m.segment == DS || m.segment == SS) m.segment = m.base == RSP || m.base == RBP ? SS : DS;
      if (m.base >= 0) i.gpr_read |= static_cast<u16>(1u << m.base);
      if (m.index >= 0) i.gpr_read |= static_cast<u16>(1u << m.index);
    }
  }
  for (unsigned k = 0; k < i.operand_count; ++k) {
    Operand& o = i.op[k];
    if (o.kind == OperandKind::mem || !by_modrm_or_opcode(o)) continue;
    unsigned reg = o.field == Field::modrm_reg  ? rex_r << 3 | (h.modrm >> 3 & 7u)
                   : o.field == Field::modrm_rm ? rex_b << 3 | (h.modrm & 7u)
                                                : rex_b << 3 | (h.opcode & 7u);
    if (o.kind == OperandKind::mmx) reg &= 7;
    if (o.kind == OperandKind::gpr) {
      o.high = o.size == 1 && !h.rex && reg >= 4;
      if (o.high) reg -= 4;
      if (o.read) i.gpr_read |= static_cast<u16>(1u << reg);
      if (o.written) i.gpr_written |= static_cast<u16>(1u << reg);
    }
    o.reg = static_cast<u8>(reg);
  }
  if (i.imm_bytes) {
    i.imm_offset = static_cast<u8>(at);
    bool is_signed = false;
    for (unsigned k = 0; k < i.operand_count; ++k)
      if (i.op[k].kind == OperandKind::imm) is_signed = i.op[k].is_signed;
    i.imm = sign_extended(code + at, i.imm_bytes);
    if (!is_signed && i.imm_bytes < 8) i.imm &= static_cast<i64>((u64{1} << (8 * i.imm_bytes)) - 1);
    at += i.imm_bytes;
  }
  if (at > size) return false;
  i.length = static_cast<u8>(at);
  std::memcpy(i.bytes, code, at);
  return true;
}

DecodeStatus DecodeTemplates::learn(const Head& h, const u8* code, std::size_t size, Insn* out) {
  Template t;
  const DecodeStatus status = decode_by_zydis(code, size, CodeSize::bits64, true, &t.insn, &t.fixed);
  *out = t.insn;
  if (status != DecodeStatus::ok) return status;
  Shape& shape = shapes_[(h.prefix * kMaps + h.map) * 256u + h.opcode];
  const Shape found = shape_of(h, t.insn);
  if (shape == Shape::unknown) shape = found;
  if (found == Shape::never || found == Shape::unknown) return status;
  // An opcode that is sometimes a group and sometimes not is taken for a group.
  if (shape == Shape::operands && found == Shape::group) shape = Shape::group;
  t.key = key_of(h, shape);
  std::memset(t.insn.bytes, 0, sizeof t.insn.bytes);
  templates_[t.key * 0x9e3779b1u >> 21] = t;
  return status;
}

DecodeStatus DecodeTemplates::decode(const u8* code, std::size_t size, Insn* out) {
  Head h;
  if (!parse(code, size, &h)) return decode_by_zydis(code, size, CodeSize::bits64, true, out);
  const Shape shape = shapes_[(h.prefix * kMaps + h.map) * 256u + h.opcode];
  if (shape == Shape::never) return decode_by_zydis(code, size, CodeSize::bits64, true, out);
  if (shape != Shape::unknown) {
    const u32 key = key_of(h, shape);
    static_assert(kTemplates == 1 << (32 - 21));
    const Template& t = templates_[key * 0x9e3779b1u >> 21];
    if (t.key == key && fill_in(t, h, code, size, out)) return DecodeStatus::ok;
  }
  return learn(h, code, size, out);
}

}  // namespace deja
