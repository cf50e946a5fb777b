#include "linux/btf.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "linux/btf_for_test.h"

namespace deja {
namespace {

constexpr u32 kInt = 1, kStruct = 4, kUnion = 5;

// struct task { int pid; union { int a; struct { int pad, b; }; }; int flag : 1; };
std::vector<u8> sample() {
  test::BtfMaker m;
  m.type(m.name("int"), kInt, 0, 4, {32});                              // 1
  m.type(0, kStruct, 2, 8, {m.name("pad"), 1, 0, m.name("b"), 1, 32});  // 2
  m.type(0, kUnion, 2, 8, {m.name("a"), 1, 0, 0, 2, 0});                // 3
  m.type(m.name("task"), kStruct, 3, 16, {m.name("pid"), 1, 0, 0, 3, 32, m.name("flag"), 1, 1u << 24 | 96},
         true);  // 4
  return m.bytes();
}

TEST(Btf, MembersAreFoundAlsoInAnonymousStructuresAndUnions) {
  const std::vector<u8> bytes = sample();
  auto btf = Btf::parse(bytes);
  ASSERT_TRUE(btf) << btf.error().message;
  EXPECT_EQ(btf->offset_of("task", "pid").value(), 0u);
  EXPECT_EQ(btf->offset_of("task", "a").value(), 4u);
  EXPECT_EQ(btf->offset_of("task", "b").value(), 8u);
  EXPECT_EQ(btf->size_of("task").value(), 16u);
  EXPECT_FALSE(btf->size_of("tusk"));
}

TEST(Btf, WhatIsNotThereIsAnErrorThatNamesIt) {
  const std::vector<u8> bytes = sample();
  auto btf = Btf::parse(bytes);
  ASSERT_TRUE(btf);
  for (const char* member : {"none", "flag"}) {
    auto offset = btf->offset_of("task", member);
    ASSERT_FALSE(offset) << member;
    EXPECT_NE(offset.error().message.find(std::string("task.") + member), std::string::npos);
  }
  EXPECT_FALSE(btf->offset_of("int", "pid"));
  EXPECT_FALSE(Btf::parse({}));
}

// Looked through level by level it would take 60,000 to the power of 16 members.
TEST(Btf, AStructureOfManyItselvesHasAnEnd) {
  constexpr u32 kMembers = 60'000;
  test::BtfMaker m;
  std::vector<u32> members;
  for (u32 i = 0; i < kMembers; ++i) members.insert(members.end(), {0, 1, 0});
  m.type(m.name("task"), kStruct, kMembers, 16, members);
  const std::vector<u8> bytes = m.bytes();
  auto btf = Btf::parse(bytes);
  ASSERT_TRUE(btf) << btf.error().message;
  EXPECT_FALSE(btf->offset_of("task", "pid"));
}

TEST(Btf, NoDamageIsTooMuch) {
  const std::vector<u8> good = sample();
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<u8> bad = good;
    for (unsigned n = random() % 4 + 1; n > 0; --n) bad[random() % bad.size()] = static_cast<u8>(random());
    bad.resize(random() % 4 ? bad.size() : random() % bad.size());
    if (auto btf = Btf::parse(bad)) (void)btf->offset_of("task", "b").ok();
  }
}

}  // namespace
}  // namespace deja
