#include "translate/unroll.h"

#include <gtest/gtest.h>

#include "translate/plan.h"

namespace deja {
namespace {

std::vector<BlockInsn> formed(std::vector<u8> code) {
  std::vector<BlockInsn> block;
  const BlockMode mode{BlockMode::kUser | kMode64 | BlockMode::kSse};
  const TranslateInput input{Gpa(0x1020), mode, code.data(), static_cast<unsigned>(code.size()), kNoPage, {}};
  EXPECT_EQ(form_block(input, {}, &block), FormStatus::ok);
  return block;
}

const std::vector<u8> kLoop = {0x48, 0x03, 0x04, 0xce,  // add rax, [rsi + rcx*8]
                               0x48, 0xff, 0xc1,        // inc rcx
                               0x75, 0xf7};             // jnz back to the first

TEST(Unroll, OnlyAJumpToTheBlocksOwnStartMakesALoop) {
  EXPECT_TRUE(is_small_loop(formed(kLoop), 64));
  EXPECT_FALSE(is_small_loop(formed({0x90, 0xff, 0xc1, 0x75, 0xfc, 0xc3}), 64));  // to its second instruction
  EXPECT_FALSE(is_small_loop(formed({0xff, 0xc1, 0xc3}), 64));
}

TEST(Unroll, ALoopOfManyInstructionsIsLeftAlone) {
  std::vector<u8> code(60, 0x90);
  code.insert(code.end(), {0x75, 0xc2});
  EXPECT_FALSE(is_small_loop(formed(code), 64));
  EXPECT_FALSE(is_small_loop(formed(kLoop), 5));
}

TEST(Unroll, EachTurnButTheLastGoesOnInTheBlock) {
  auto block = formed(kLoop);
  unroll_loop(&block, 64);
  ASSERT_EQ(block.size(), 12u);
  for (unsigned i = 0; i < 12; ++i) {
    EXPECT_EQ(block[i].start, block[i % 3].start);
    EXPECT_EQ(block[i].goes_round, i % 3 == 2 && i != 11);
  }
}

TEST(Unroll, TheTurnsShareOneCheck) {
  auto block = formed(kLoop);
  unroll_loop(&block, 64);
  plan_groups(block);
  EXPECT_TRUE(block[0].access[0].leads);
  EXPECT_EQ(block[0].access[0].span, 32);
  EXPECT_EQ(block[9].access[0].group, block[0].access[0].group);
  EXPECT_FALSE(block[9].access[0].leads);
}

}  // namespace
}  // namespace deja
