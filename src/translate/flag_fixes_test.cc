#include "translate/flag_fixes.h"
#include "decode/flag_groups.h"

#include <gtest/gtest.h>

namespace deja {
namespace {

// A block on a host that has as few of the canonical flags as flag_fixes.h can live with.
std::vector<BlockInsn> planned(std::vector<u8> code, TranslateOptions options = {}) {
  options.soft_flags = ~kGroupsForFixes;
  std::vector<BlockInsn> block;
  const BlockMode mode{BlockMode::kUser | kMode64 | BlockMode::kSse};
  const TranslateInput input{Gpa(0x1020), mode, code.data(), static_cast<unsigned>(code.size()), kNoPage, {}};
  EXPECT_EQ(form_block(input, options, &block), FormStatus::ok);
  plan_flags(block);
  return block;
}

enum class How { as_it_is, mended, in_cpp };
How how(const BlockInsn& b) {
  return b.way != Way::carry ? How::in_cpp : b.fix_flags ? How::mended : How::as_it_is;
}

constexpr std::initializer_list<u8> kShl = {0x48, 0xc1, 0xe0, 0x04};  // shl rax, 4

std::vector<u8> shl_and(std::initializer_list<u8> rest) {
  std::vector<u8> code = kShl;
  code.insert(code.end(), rest);
  code.push_back(0xc3);  // ret
  return code;
}

TEST(FlagFixes, FlagsThatAreOverwrittenAtOnceAreLeftAlone) {
  EXPECT_EQ(how(planned(shl_and({0x48, 0x01, 0xd0}))[0]), How::as_it_is);  // add rax, rdx
  EXPECT_EQ(how(planned(shl_and({0x48, 0x89, 0xc2, 0x85, 0xc9}))[0]),
            How::as_it_is);  // mov rdx, rax; test ecx, ecx
  EXPECT_EQ(how(planned(shl_and({0x48, 0xc1, 0xe8, 0x04}))[0]), How::as_it_is);  // shr rax, 4
}

TEST(FlagFixes, FlagsThatAFaultWouldShowAreMended) {
  EXPECT_EQ(how(planned(shl_and({0x48, 0x03, 0x02}))[0]), How::mended);        // add rax, [rdx]
  EXPECT_EQ(how(planned(shl_and({0x8b, 0x0a, 0x01, 0xc8}))[0]), How::mended);  // mov ecx, [rdx]; add eax, ecx
  EXPECT_EQ(how(planned(shl_and({}))[0]), How::mended);                        // the block ends
  EXPECT_EQ(how(planned(shl_and({0x9c}))[0]), How::mended);                    // pushfq
  EXPECT_EQ(how(planned(shl_and({0x70, 0x00, 0x01, 0xd0}))[0]), How::mended);  // jo; add eax, edx
}

TEST(FlagFixes, WhatLeavesFlagsAsTheyAreOverwritesNone) {
  EXPECT_EQ(how(planned(shl_and({0xd3, 0xe2, 0x8b, 0x0a}))[0]), How::mended);    // shl edx, cl: perhaps by 0
  EXPECT_EQ(how(planned(shl_and({0xff, 0xc2, 0x8b, 0x0a}))[0]), How::as_it_is);  // inc edx sets AF and OF
  EXPECT_EQ(how(planned(shl_and({0xf9, 0x8b, 0x0a}))[0]), How::mended);          // stc
}

TEST(FlagFixes, RareFormsAreDoneInCppUnlessNobodyLooks) {
  EXPECT_EQ(how(planned({0xd3, 0x22, 0xc3})[0]), How::in_cpp);                // shl [rdx], cl
  EXPECT_EQ(how(planned({0xd3, 0x22, 0x31, 0xc0, 0xc3})[0]), How::as_it_is);  // … xor eax, eax
  EXPECT_EQ(how(planned({0xf6, 0xe2, 0xc3})[0]), How::in_cpp);                // mul dl
  EXPECT_EQ(how(planned({0xc0, 0xe4, 0x02, 0xc3})[0]), How::in_cpp);          // shl ah, 2
  EXPECT_EQ(how(planned({0x48, 0xd3, 0xe1, 0xc3})[0]), How::in_cpp);          // shl rcx, cl
}

// SHLD of 16 bits by more than 16 leaves another result on other hosts.
TEST(FlagFixes, AResultThatDiffersIsAlwaysMadeInCpp) {
  EXPECT_EQ(how(planned({0x66, 0x0f, 0xa4, 0xc2, 0x14, 0x31, 0xc0, 0xc3})[0]), How::in_cpp);
  EXPECT_EQ(how(planned({0x0f, 0xa4, 0xc2, 0x14, 0x31, 0xc0, 0xc3})[0]), How::as_it_is);
}

TEST(FlagFixes, TheSwitchAndTheHostCanForbidThem) {
  TranslateOptions options;
  options.fix_flags = false;
  EXPECT_EQ(how(planned(shl_and({0x48, 0x01, 0xd0}), options)[0]), How::in_cpp);
  options = {};
  options.cpp_flags = 1u << static_cast<unsigned>(FlagGroup::shift);
  EXPECT_EQ(how(planned(shl_and({0x48, 0x01, 0xd0}), options)[0]), How::in_cpp);
}

}  // namespace
}  // namespace deja
