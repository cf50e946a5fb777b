#include "translate/plan.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

BlockMode user64() {
  return {BlockMode::kUser | BlockMode::kCode64 | BlockMode::kFlatCode | BlockMode::kFlatData |
          BlockMode::kFlatFsGs | BlockMode::kStackBig | BlockMode::kSse};
}

std::vector<BlockInsn> formed(std::vector<u8> code, const TranslateOptions& options = {}) {
  std::vector<BlockInsn> block;
  TranslateInput input{Gpa(0x1000), user64(), code.data(), static_cast<unsigned>(code.size()), kNoPage, {}};
  EXPECT_EQ(form_block(input, options, &block), FormStatus::ok);
  return block;
}

std::vector<BlockInsn> planned(std::vector<u8> code) {
  auto block = formed(std::move(code));
  plan_groups(block);
  return block;
}

TEST(FormBlock, GoesOnBehindAConditionalJumpWhenItMayExtend) {
  const std::vector<u8> code = {0x74, 0x10, 0xff, 0xc0, 0xc3};  // jz; inc eax; ret
  EXPECT_EQ(formed(code).size(), 3u);
  TranslateOptions options;
  options.extend = false;
  EXPECT_EQ(formed(code, options).size(), 1u);
}

TEST(FormBlock, EndsAtAJumpBack) {
  EXPECT_EQ(formed({0xff, 0xc0, 0x75, 0xfc, 0xc3}).size(), 2u);  // inc eax; jnz; ret
}

TEST(FormBlock, EndsBeforeACutAndAtTheLimit) {
  const std::vector<u8> code(10, 0x90);
  std::vector<BlockInsn> block;
  const u16 cuts[] = {4};
  TranslateInput input{Gpa(0x1000), user64(), code.data(), 10, kNoPage, cuts};
  ASSERT_EQ(form_block(input, {}, &block), FormStatus::ok);
  EXPECT_EQ(block.size(), 4u);
  input.cuts = {};
  input.mode.bits |= 3u << BlockMode::kLimitShift;
  ASSERT_EQ(form_block(input, {}, &block), FormStatus::ok);
  EXPECT_EQ(block.size(), 3u);
}

TEST(FormBlock, AsksForTheNextPageOnlyForItsFirstInstruction) {
  const std::vector<u8> code = {0x90, 0x48, 0x8b};
  EXPECT_EQ(formed(code).size(), 1u);
  std::vector<BlockInsn> block;
  TranslateInput input{Gpa(0x1ffe), user64(), code.data() + 1, 2, kNoPage, {}};
  EXPECT_EQ(form_block(input, {}, &block), FormStatus::need_next_page);
}

TEST(PlanGroups, OneCheckForFieldsOfOneStructure) {
  // mov rax,[rbx+8]; mov [rbx+16],eax; ret
  const auto b = planned({0x48, 0x8b, 0x43, 0x08, 0x89, 0x43, 0x10, 0xc3});
  EXPECT_EQ(b[0].access[0].group, 0);
  EXPECT_TRUE(b[0].access[0].leads);
  EXPECT_TRUE(b[0].access[0].writes);  // a member does
  EXPECT_EQ(b[0].access[0].before, 0);
  EXPECT_EQ(b[0].access[0].span, 12);
  EXPECT_EQ(b[1].access[0].group, 0);
  EXPECT_FALSE(b[1].access[0].leads);
  EXPECT_EQ(b[2].access[0].group, -1);  // the stack, alone
}

TEST(PlanGroups, FollowsThePushesAndPops) {
  // push rbp; push rbx; mov rax,[rsp+8]; add rsp,8; pop rcx; ret
  const auto b = planned({0x55, 0x53, 0x48, 0x8b, 0x44, 0x24, 0x08, 0x48, 0x83, 0xc4, 0x08, 0x59, 0xc3});
  EXPECT_TRUE(b[0].access[0].leads);
  EXPECT_EQ(b[0].access[0].before, 8);  // the second push lies below the first
  EXPECT_EQ(b[0].access[0].span, 24);   // and RET reads above it
  for (const unsigned i : {1u, 2u, 4u, 5u}) EXPECT_EQ(b[i].access[0].group, b[0].access[0].group) << i;
}

TEST(PlanGroups, AWrittenRegisterIsAnother) {
  // mov rax,[rbx]; mov rbx,[rbx+8]; mov rcx,[rbx]; ret
  const auto b = planned({0x48, 0x8b, 0x03, 0x48, 0x8b, 0x5b, 0x08, 0x48, 0x8b, 0x0b, 0xc3});
  EXPECT_EQ(b[0].access[0].group, b[1].access[0].group);
  EXPECT_EQ(b[2].access[0].group, -1);
}

TEST(PlanGroups, NegativeImmediatesAreSigned) {
  // mov rax,[rbx]; add rbx,-16; mov rcx,[rbx]; sub rbx,-256 (imm32); mov rdx,[rbx]; ret
  const auto b = planned({0x48, 0x8b, 0x03, 0x48, 0x83, 0xc3, 0xf0, 0x48, 0x8b, 0x0b, 0x48,
                          0x81, 0xeb, 0x00, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x13, 0xc3});
  EXPECT_EQ(b[0].access[0].before, 16);
  EXPECT_EQ(b[0].access[0].span, 24);
  EXPECT_EQ(b[4].access[0].group, -1);  // 240 bytes on: too wide a span
}

TEST(PlanGroups, WhatCppDoesMayChangeEveryRegister) {
  // mov rax,[rbx]; cmpxchg8b [rdi]; mov rcx,[rbx]; ret
  const auto b = planned({0x48, 0x8b, 0x03, 0x0f, 0xc7, 0x0f, 0x48, 0x8b, 0x0b, 0xc3});
  EXPECT_EQ(b[1].way, Way::helper_inline);
  EXPECT_EQ(b[0].access[0].group, -1);
  EXPECT_EQ(b[2].access[0].group, -1);
}

TEST(PlanGroups, SegmentsWithABaseStayOut) {
  // mov rax,fs:[rbx]; mov rcx,[rbx]; ret
  const auto b = planned({0x64, 0x48, 0x8b, 0x03, 0x48, 0x8b, 0x0b, 0xc3});
  EXPECT_EQ(b[0].access[0].group, -1);
  EXPECT_EQ(b[1].access[0].group, -1);
}

}  // namespace
}  // namespace deja
