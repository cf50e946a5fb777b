// One decoded guest instruction in compact form. Zydis does the decoding; mnemonics and registers keep its
// names.
#pragma once

#include <Zydis/Zydis.h>

#include <string>

#include "base/types.h"
#include "guest/cpu_state.h"

namespace deja {

inline constexpr unsigned kMaxInsnBytes = 15;  // longer ones raise #GP(0)

// How the code segment makes bytes into instructions.
enum class CodeSize : u8 { bits16 = 2, bits32 = 4, bits64 = 8 };

enum class OperandKind : u8 { none, gpr, seg, cr, dr, mmx, xmm, ymm, st, mem, imm, far_ptr };

// Where an operand is encoded.
enum class Field : u8 { implicit, modrm_reg, modrm_rm, opcode, vvvv, is4, immediate };

struct Operand {
  OperandKind kind = OperandKind::none;
  Field field = Field::implicit;
  u8 size = 0;  // bytes (mem: bytes accessed; 0 for AGEN operands such as LEA, INVLPG)
  u8 reg = 0;   // register number in encoding order; for high-byte registers (AH..BH) 0..3 and high = true
  bool high = false;
  bool read = false, written = false;
  bool is_signed = false;  // immediates
};

// A ModRM/SIB/moffs memory operand. Registers are numbers in encoding order, -1 for none.
struct MemOperand {
  i8 base = -1, index = -1;
  u8 scale = 1;
  bool rip_relative = false;
  bool vector_index = false;  // VSIB (gathers)
  u8 segment = DS;            // after overrides and defaults
  u8 address_size = 8;        // bytes: 2, 4 or 8
  i64 disp = 0;
};

struct Insn {
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  u8 length = 0;
  u8 bytes[15] = {};
  CodeSize code_size = CodeSize::bits64;
  u8 operand_size = 0;      // effective operand size in bytes: 1, 2, 4, 8 (or 16, 32 for vectors)
  u8 address_size = 0;      // effective address size in bytes
  u8 mandatory_prefix = 0;  // 66h, F2h or F3h when it selects the instruction, else 0
  bool lock = false, rep = false, repne = false, prefix66 = false, rex_w = false;
  u8 stack_size = 0;     // effective stack address width in bytes
  u8 isa_ext = 0;        // ZydisISAExt
  u16 isa_set = 0;       // ZydisISASet
  u8 category = 0;       // ZydisInstructionCategory
  u8 operand_count = 0;  // explicit operands in op[]
  Operand op[4];
  MemOperand mem;  // valid when has_mem
  bool has_mem = false;
  i64 imm = 0;               // first immediate, sign-extended when signed; branch targets: the displacement
  u64 imm2 = 0;              // second immediate (ENTER, EXTRQ); far_ptr: selector, with the offset in imm
  bool is_relative = false;  // imm is relative to the end of the instruction

  // Raw layout, for rewriting in place; offsets into bytes[], 0 where absent.
  u8 modrm_offset = 0;
  u8 opcode_offset = 0;
  u8 imm_offset = 0, imm_bytes = 0;
  u8 map = 0;       // ZydisOpcodeMap
  u8 opcode = 0;    // last opcode byte
  u8 encoding = 0;  // ZydisInstructionEncoding: legacy, VEX…
  u8 modrm = 0;
  bool has_modrm = false;
  bool has_rex = false, rex_r = false, rex_x = false,
       rex_b = false;                      // REX bits; for VEX its bits, not inverted
  u8 vex_l = 0, vex_vvvv = 0, vex_pp = 0;  // VEX.vvvv not inverted; VEX.W is rex_w

  // Status flags (flag::…): what the instruction reads, sets to a defined value, leaves undefined.
  u32 flags_read = 0, flags_written = 0, flags_undefined = 0;
  // General registers used implicitly or explicitly, bit per register.
  u16 gpr_read = 0, gpr_written = 0;
  bool implicit_rcx = false;  // RCX/ECX/CL/CX is an operand not encoded in ModRM/VEX

  unsigned modrm_reg() const { return (modrm >> 3) & 7; }
  unsigned modrm_rm() const { return modrm & 7; }
};

enum class DecodeStatus : u8 {
  ok,
  truncated,  // valid so far, but needs more than the bytes given
  too_long,   // more than 15 bytes: #GP(0)
  invalid,    // #UD
};

// Decodes one instruction from `size` bytes at `code`. stack_big: SS.B (ignored for bits64).
DecodeStatus decode(const u8* code, std::size_t size, CodeSize code_size, bool stack_big, Insn* out);

// "mov rax, qword ptr [rbx+8]" as at `address`, for logs and tests.
std::string disassemble(const u8* code, std::size_t size, CodeSize code_size, u64 address);

}  // namespace deja
