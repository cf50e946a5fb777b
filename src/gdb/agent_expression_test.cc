#include "gdb/agent_expression.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

namespace deja {
namespace {

// Register n holds 100 + n; memory at 1000h counts up from 1; nothing else is there.
AgentContext context() {
  AgentContext c;
  c.reg = [](u64 n, u64* value) {
    *value = 100 + n;
    return n < 32;
  };
  c.memory = [](u64 address, void* out, unsigned size) {
    if (address < 0x1000 || address + size > 0x1010) return false;
    for (unsigned i = 0; i < size; ++i) static_cast<u8*>(out)[i] = static_cast<u8>(address - 0x1000 + i + 1);
    return true;
  };
  return c;
}

std::optional<u64> run(std::initializer_list<u8> code) {
  return evaluate_agent_expression({reinterpret_cast<const char*>(code.begin()), code.size()}, context());
}

TEST(AgentExpression, ArithmeticIsSignedOrUnsignedAsAsked) {
  EXPECT_EQ(run({0x22, 7, 0x22, 3, 0x03, 0x27}), 4u);
  EXPECT_EQ(run({0x22, 0xfe, 0x16, 8, 0x22, 2, 0x05, 0x27}), ~u64{0});
  EXPECT_EQ(run({0x22, 0xfe, 0x2a, 4, 0x22, 5, 0x15, 0x27}), 0u);
  EXPECT_EQ(run({0x22, 0xff, 0x16, 8, 0x22, 1, 0x14, 0x27}), 1u);
  EXPECT_EQ(run({0x22, 0xff, 0x16, 8, 0x22, 1, 0x15, 0x27}), 0u);
  // The most negative number by -1.
  EXPECT_EQ(run({0x25, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x22, 0xff, 0x16, 8, 0x05, 0x27}), u64{1} << 63);
  EXPECT_EQ(run({0x22, 1, 0x22, 64, 0x09, 0x27}), 0u);
}

TEST(AgentExpression, ReadsRegistersAndLittleEndianMemory) {
  EXPECT_EQ(run({0x26, 0, 5, 0x27}), 105u);
  EXPECT_EQ(run({0x23, 0x10, 0x00, 0x18, 0x27}), 0x0201u);
  EXPECT_EQ(run({0x23, 0x10, 0x08, 0x1a, 0x27}), 0x100f0e0d0c0b0a09u);
}

TEST(AgentExpression, JumpsAndMovesTheStack) {
  // if (1) 5 else 9
  EXPECT_EQ(run({0x22, 1, 0x20, 0, 8, 0x22, 9, 0x27, 0x22, 5, 0x27}), 5u);
  EXPECT_EQ(run({0x22, 1, 0x22, 2, 0x2b, 0x03, 0x27}), 1u);     // swap: 2 - 1
  EXPECT_EQ(run({0x22, 1, 0x22, 2, 0x22, 3, 0x33, 0x27}), 2u);  // rot: 3 1 2
  EXPECT_EQ(run({0x22, 1, 0x22, 2, 0x32, 1, 0x27}), 1u);        // pick
}

TEST(AgentExpression, WhatCannotBeEvaluatedIsNothing) {
  EXPECT_EQ(run({}), std::nullopt);
  EXPECT_EQ(run({0x27}), std::nullopt);                          // empty stack
  EXPECT_EQ(run({0x22, 1}), std::nullopt);                       // no end
  EXPECT_EQ(run({0x22, 1, 0x22, 0, 0x05, 0x27}), std::nullopt);  // by zero
  EXPECT_EQ(run({0x22, 0, 0x17, 0x27}), std::nullopt);           // not mapped
  EXPECT_EQ(run({0x26, 1, 0, 0x27}), std::nullopt);              // no such register
  EXPECT_EQ(run({0x21, 0, 0}), std::nullopt);                    // for ever
  EXPECT_EQ(run({0x22, 1, 0x28, 0x21, 0, 2}), std::nullopt);     // the stack is full
  EXPECT_EQ(run({0x0c, 0x27}), std::nullopt);                    // tracepoints only
}

TEST(AgentExpression, AnyCodeIsSafe) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 20000; ++round) {
    std::string code;
    for (int i = 0; i < 40; ++i) code.push_back(static_cast<char>(random() % 0x38));
    evaluate_agent_expression(code, context());
  }
}

}  // namespace
}  // namespace deja
