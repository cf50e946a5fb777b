#include "decode/templates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace deja {
namespace {

// Everything that an Insn says, field by field: padding has no value.
std::string text_of(const Operand& o) {
  std::string s;
  for (const int v : {static_cast<int>(o.kind), static_cast<int>(o.field), int{o.size}, int{o.reg},
                      int{o.high}, int{o.read}, int{o.written}, int{o.is_signed}})
    s += std::to_string(v) + ",";
  return s;
}

std::string text_of(const Insn& i) {
  std::string s;
  const auto add = [&](const char* name, i64 value) {
    s += std::string(name) + "=" + std::to_string(value) + " ";
  };
  add("mnemonic", i.mnemonic), add("length", i.length);
  for (const u8 b : i.bytes) s += std::to_string(b) + ".";
  add(" size", static_cast<int>(i.code_size)), add("operand_size", i.operand_size);
  add("address_size", i.address_size), add("mandatory", i.mandatory_prefix);
  add("lock", i.lock), add("rep", i.rep), add("repne", i.repne), add("66", i.prefix66), add("w", i.rex_w);
  add("stack", i.stack_size), add("ext", i.isa_ext), add("set", i.isa_set), add("category", i.category);
  for (unsigned k = 0; k < i.operand_count; ++k) s += "op " + text_of(i.op[k]) + " ";
  add("has_mem", i.has_mem);
  if (i.has_mem) {
    add("base", i.mem.base), add("index", i.mem.index), add("scale", i.mem.scale);
    add("rip", i.mem.rip_relative), add("vsib", i.mem.vector_index), add("segment", i.mem.segment);
    add("address", i.mem.address_size), add("disp", i.mem.disp);
  }
  add("imm", i.imm), add("imm2", static_cast<i64>(i.imm2)), add("relative", i.is_relative);
  add("modrm_offset", i.modrm_offset), add("opcode_offset", i.opcode_offset), add("imm_offset", i.imm_offset);
  add("imm_bytes", i.imm_bytes), add("map", i.map), add("opcode", i.opcode), add("encoding", i.encoding);
  add("modrm", i.modrm), add("has_modrm", i.has_modrm), add("rex", i.has_rex), add("r", i.rex_r);
  add("x", i.rex_x), add("b", i.rex_b), add("vex_l", i.vex_l), add("vvvv", i.vex_vvvv), add("pp", i.vex_pp);
  add("flags_read", i.flags_read), add("written", i.flags_written), add("undefined", i.flags_undefined);
  add("gpr_read", i.gpr_read), add("gpr_written", i.gpr_written), add("implicit_rcx", i.implicit_rcx);
  return s;
}

class DecodeTemplatesTest : public testing::Test {
 protected:
  void compare(const u8* code, std::size_t size) {
    Insn expected, got;
    const DecodeStatus status = decode_by_zydis(code, size, CodeSize::bits64, true, &expected);
    ASSERT_EQ(templates.decode(code, size, &got), status) << hex(code);
    if (status == DecodeStatus::ok && std::memcmp(&expected, &got, sizeof got) != 0) {
      ASSERT_EQ(text_of(got), text_of(expected)) << hex(code);
    }
  }
  static std::string hex(const u8* code) {
    std::string s;
    char byte[4];
    for (unsigned k = 0; k < 15; ++k) s += (std::snprintf(byte, sizeof byte, "%02x ", code[k]), byte);
    return s;
  }
  DecodeTemplates templates;
};

// In an order of its own each time round, so that each form gets its turn to be what a template is made of.
TEST_F(DecodeTemplatesTest, SayWhatZydisSaysOfEveryOpcodeModrmAndPrefix) {
  const u8 prefixes[][3] = {{0},
                            {1, 0x66},
                            {1, 0xf2},
                            {1, 0xf3},
                            {1, 0x64},
                            {1, 0x65},
                            {1, 0xf0},
                            {1, 0x67},
                            {1, 0x2e},
                            {2, 0x66, 0xf2},
                            {2, 0xf2, 0x66},
                            {2, 0xf3, 0x64},
                            {2, 0x66, 0x65},
                            {2, 0x48, 0x66}};
  std::mt19937_64 random(1);
  std::vector<u32> order;
  for (u32 p = 0; p < std::size(prefixes); ++p)
    for (u32 rex = 0; rex < 17; ++rex)
      for (u32 map = 0; map < 4; ++map)
        for (u32 opcode = 0; opcode < 256; ++opcode) order.push_back(p << 16 | rex << 10 | map << 8 | opcode);
  std::shuffle(order.begin(), order.end(), random);
  for (const u32 what : order) {
    const u8* const prefix = prefixes[what >> 16];
    const u32 rex = what >> 10 & 63, map = what >> 8 & 3;
    for (unsigned round = 0; round < 24; ++round) {
      u8 code[15];
      for (u8& b : code) b = static_cast<u8>(random());
      unsigned at = 0;
      for (unsigned k = 1; k <= prefix[0]; ++k) code[at++] = prefix[k];
      if (rex) code[at++] = static_cast<u8>(0x40 | (rex - 1));
      if (map) code[at++] = 0x0f;
      if (map >= 2) code[at++] = map == 2 ? 0x38 : 0x3a;
      code[at++] = static_cast<u8>(what);
      compare(code, sizeof code);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(DecodeTemplatesTest, SayWhatZydisSaysOfEveryModrmAndSib) {
  // add, lea, mov of bytes, a group, imul with an immediate, movzx, movups, jumps and pushes by group
  const std::vector<std::vector<u8>> opcodes = {{0x01},       {0x8d}, {0x88}, {0x83},
                                                {0xc7},       {0xf6}, {0x6b}, {0x0f, 0xb6},
                                                {0x0f, 0x10}, {0xff}, {0x63}, {0x0f, 0x6f}};
  std::mt19937_64 random(2);
  for (const auto& opcode : opcodes)
    for (unsigned rex = 0; rex < 17; ++rex)
      for (unsigned modrm = 0; modrm < 256; ++modrm)
        for (unsigned sib = 0; sib < ((modrm & 7) == 4 && modrm < 0xc0 ? 256 : 1); ++sib) {
          u8 code[15];
          for (u8& b : code) b = static_cast<u8>(random());
          unsigned at = 0;
          if (rex) code[at++] = static_cast<u8>(0x40 | (rex - 1));
          for (const u8 b : opcode) code[at++] = b;
          code[at++] = static_cast<u8>(modrm);
          if ((modrm & 7) == 4 && modrm < 0xc0) code[at++] = static_cast<u8>(sib);
          compare(code, sizeof code);
          if (HasFatalFailure()) return;
        }
}

TEST_F(DecodeTemplatesTest, LookAtNoByteBehindThoseGiven) {
  // mov eax, [rbx + disp32], which becomes a template, and then without its last byte
  const u8 code[15] = {0x8b, 0x83, 1, 2, 3, 4};
  Insn insn;
  ASSERT_EQ(templates.decode(code, 15, &insn), DecodeStatus::ok);
  EXPECT_EQ(insn.length, 6);
  EXPECT_EQ(templates.decode(code, 5, &insn), DecodeStatus::truncated);
}

}  // namespace
}  // namespace deja
