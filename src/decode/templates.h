// Zydis decodes an instruction in 120 to 150 ns, most of it spent on finding out what its opcode means. But
// most instructions differ from one that was decoded before in their registers, displacement and immediate
// only. So what Zydis says is kept, as a template for each opcode with its prefixes (and what else of ModRM
// decides on the meaning), and for the next of the kind only these fields are filled in.
//
// Done for 64-bit code, for encodings with at most one prefix beside REX and of well-known instruction sets.
// templates_test.cc compares with Zydis over random encodings.
#pragma once

#include <array>
#include <memory>

#include "decode/insn.h"

namespace deja {

// General registers that an instruction uses whatever its ModRM, SIB and REX say.
struct FixedRegisters {
  u16 read = 0, written = 0;
};

// Decodes from scratch.
DecodeStatus decode_by_zydis(const u8* code, std::size_t size, CodeSize code_size, bool stack_big, Insn* out,
                             FixedRegisters* fixed = nullptr);

class DecodeTemplates {
 public:
  DecodeTemplates();
  ~DecodeTemplates();
  // As decode() does for CodeSize::bits64.
  DecodeStatus decode(const u8* code, std::size_t size, Insn* out);

 private:
  struct Head;
  struct Template;
  // What of ModRM is part of a template's key.
  enum class Shape : u8 {
    unknown,
    never,     // always decoded from scratch
    no_modrm,  //
    operands,  // whether it names memory
    group,     // that, and the reg field, which selects the instruction
  };
  static constexpr unsigned kPrefixes = 7, kMaps = 4;
  static constexpr unsigned kTemplates = 2048;

  static bool parse(const u8* code, std::size_t size, Head* head);
  static u32 key_of(const Head& head, Shape shape);
  static Shape shape_of(const Head& head, const Insn& insn);
  // False: the instruction is longer than `size`.
  static bool fill_in(const Template& t, const Head& head, const u8* code, std::size_t size, Insn* out);
  DecodeStatus learn(const Head& head, const u8* code, std::size_t size, Insn* out);

  std::array<Shape, kPrefixes * kMaps * 256> shapes_{};
  std::unique_ptr<Template[]> templates_;
};

}  // namespace deja
