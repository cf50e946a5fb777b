#include "decode/insn.h"

#include <gtest/gtest.h>

#include <vector>

namespace deja {
namespace {

Insn decoded(std::vector<u8> bytes, CodeSize size = CodeSize::bits64) {
  Insn insn;
  EXPECT_EQ(decode(bytes.data(), bytes.size(), size, true, &insn), DecodeStatus::ok);
  EXPECT_EQ(insn.length, bytes.size());
  return insn;
}

TEST(Decode, MemoryOperandWithSibAndDisplacement) {
  const Insn i =
      decoded({0x4a, 0x8b, 0x84, 0xe5, 0x10, 0x00, 0x00, 0x80});  // mov rax, [rbp + r12*8 - 0x7ffffff0]
  EXPECT_EQ(i.mnemonic, ZYDIS_MNEMONIC_MOV);
  ASSERT_TRUE(i.has_mem);
  EXPECT_EQ(i.mem.base, RBP);
  EXPECT_EQ(i.mem.index, R12);
  EXPECT_EQ(i.mem.scale, 8);
  EXPECT_EQ(i.mem.disp, -0x7ffffff0);
  EXPECT_EQ(i.mem.segment, SS);
  EXPECT_EQ(i.op[0].field, Field::modrm_reg);
  EXPECT_EQ(i.op[1].size, 8);
}

TEST(Decode, HighByteRegistersAreToldFromRexOnes) {
  const Insn ah = decoded({0x88, 0xe0});  // mov al, ah
  EXPECT_TRUE(ah.op[1].high);
  EXPECT_EQ(ah.op[1].reg, RAX);
  const Insn spl = decoded({0x40, 0x88, 0xe0});  // mov al, spl
  EXPECT_FALSE(spl.op[1].high);
  EXPECT_EQ(spl.op[1].reg, RSP);
}

TEST(Decode, VexFieldsAreNotInverted) {
  const Insn i = decoded({0xc4, 0x41, 0x35, 0x58, 0xc1});  // vaddpd ymm8, ymm9, ymm9
  EXPECT_TRUE(i.rex_r);
  EXPECT_FALSE(i.rex_x);
  EXPECT_TRUE(i.rex_b);
  EXPECT_EQ(i.vex_vvvv, 9);
  EXPECT_EQ(i.vex_pp, 1);
  EXPECT_EQ(i.vex_l, 1);
}

TEST(Decode, ShiftByClHasImplicitRcx) { EXPECT_TRUE(decoded({0x48, 0xd3, 0xe0}).implicit_rcx); }

TEST(Decode, TruncatedAndInvalid) {
  Insn insn;
  const u8 truncated[] = {0x48, 0x8b};
  EXPECT_EQ(decode(truncated, 2, CodeSize::bits64, true, &insn), DecodeStatus::truncated);
  const u8 invalid[] = {0x06, 0, 0, 0};  // push es does not exist in 64-bit mode
  EXPECT_EQ(decode(invalid, 4, CodeSize::bits64, true, &insn), DecodeStatus::invalid);
  const u8 locked_mov[] = {0xf0, 0x48, 0x89, 0x00};
  EXPECT_EQ(decode(locked_mov, 4, CodeSize::bits64, true, &insn), DecodeStatus::invalid);
  std::vector<u8> prefixes(16, 0x66);
  EXPECT_EQ(decode(prefixes.data(), 15, CodeSize::bits64, true, &insn), DecodeStatus::too_long);
}

TEST(Decode, EndbrIsANop) { EXPECT_EQ(decoded({0xf3, 0x0f, 0x1e, 0xfa}).mnemonic, ZYDIS_MNEMONIC_NOP); }

}  // namespace
}  // namespace deja
