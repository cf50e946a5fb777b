#include "gdb/agent_expression.h"

#include <array>

namespace deja {
namespace {

// Operations by their codes (gdb/gdbsupport/ax.def).
enum Op : u8 {
  kAdd = 0x02,
  kSub = 0x03,
  kMul = 0x04,
  kDivSigned = 0x05,
  kDivUnsigned = 0x06,
  kRemSigned = 0x07,
  kRemUnsigned = 0x08,
  kLsh = 0x09,
  kRshSigned = 0x0a,
  kRshUnsigned = 0x0b,
  kLogNot = 0x0e,
  kBitAnd = 0x0f,
  kBitOr = 0x10,
  kBitXor = 0x11,
  kBitNot = 0x12,
  kEqual = 0x13,
  kLessSigned = 0x14,
  kLessUnsigned = 0x15,
  kExt = 0x16,
  kRef8 = 0x17,
  kRef16 = 0x18,
  kRef32 = 0x19,
  kRef64 = 0x1a,
  kIfGoto = 0x20,
  kGoto = 0x21,
  kConst8 = 0x22,
  kConst16 = 0x23,
  kConst32 = 0x24,
  kConst64 = 0x25,
  kReg = 0x26,
  kEnd = 0x27,
  kDup = 0x28,
  kPop = 0x29,
  kZeroExt = 0x2a,
  kSwap = 0x2b,
  kPick = 0x32,
  kRot = 0x33,
};

constexpr unsigned kStack = 256;
constexpr unsigned kMostOperations = 10'000;  // a condition that loops

class Evaluation {
 public:
  Evaluation(std::string_view code, const AgentContext& context) : code_(code), context_(context) {}

  std::optional<u64> run() {
    for (unsigned n = 0; n < kMostOperations; ++n) {
      u64 op = 0;
      if (!immediate(1, &op)) return std::nullopt;
      if (op == kEnd) return depth_ ? std::optional(stack_[depth_ - 1]) : std::nullopt;
      if (!step(static_cast<u8>(op))) return std::nullopt;
    }
    return std::nullopt;
  }

 private:
  // Big-endian, as all of the bytecode.
  bool immediate(unsigned bytes, u64* value) {
    if (code_.size() - at_ < bytes) return false;
    *value = 0;
    for (unsigned i = 0; i < bytes; ++i) *value = *value << 8 | static_cast<u8>(code_[at_++]);
    return true;
  }
  bool push(u64 v) {
    if (depth_ == kStack) return false;
    stack_[depth_++] = v;
    return true;
  }
  bool pop(u64* v) {
    if (depth_ == 0) return false;
    *v = stack_[--depth_];
    return true;
  }
  bool jump(u64 to) {
    if (to >= code_.size()) return false;
    at_ = to;
    return true;
  }

  bool step(u8 op) {
    u64 a = 0, b = 0;
    switch (op) {
      case kAdd:
      case kSub:
      case kMul:
      case kDivSigned:
      case kDivUnsigned:
      case kRemSigned:
      case kRemUnsigned:
      case kLsh:
      case kRshSigned:
      case kRshUnsigned:
      case kBitAnd:
      case kBitOr:
      case kBitXor:
      case kEqual:
      case kLessSigned:
      case kLessUnsigned:
        return pop(&b) && pop(&a) && binary(op, a, b);
      case kLogNot:
        return pop(&a) && push(!a);
      case kBitNot:
        return pop(&a) && push(~a);
      case kExt:
      case kZeroExt: {
        u64 bits = 0;
        if (!immediate(1, &bits) || bits == 0 || bits > 64 || !pop(&a)) return false;
        const unsigned n = static_cast<unsigned>(bits);
        return push(op == kExt ? sign_extend(a, n) : n == 64 ? a : a & ((u64{1} << n) - 1));
      }
      case kRef8:
      case kRef16:
      case kRef32:
      case kRef64: {
        u64 value = 0;
        return pop(&a) && context_.memory(a, &value, 1u << (op - kRef8)) && push(value);
      }
      case kIfGoto:
        return immediate(2, &b) && pop(&a) && (!a || jump(b));
      case kGoto:
        return immediate(2, &b) && jump(b);
      case kConst8:
      case kConst16:
      case kConst32:
      case kConst64:
        return immediate(1u << (op - kConst8), &a) && push(a);
      case kReg: {
        u64 value = 0;
        return immediate(2, &a) && context_.reg(a, &value) && push(value);
      }
      case kDup:
        return pop(&a) && push(a) && push(a);
      case kPop:
        return pop(&a);
      case kSwap:
        return pop(&b) && pop(&a) && push(b) && push(a);
      case kPick:
        return immediate(1, &b) && b < depth_ && push(stack_[depth_ - 1 - b]);
      case kRot: {
        u64 c = 0;
        return pop(&c) && pop(&b) && pop(&a) && push(c) && push(a) && push(b);
      }
      default:
        return false;
    }
  }

  bool binary(u8 op, u64 a, u64 b) {
    const i64 sa = static_cast<i64>(a), sb = static_cast<i64>(b);
    switch (op) {
      case kAdd:
        return push(a + b);
      case kSub:
        return push(a - b);
      case kMul:
        return push(a * b);
      // The quotient of the most negative number and -1 does not fit: it wraps.
      case kDivSigned:
        return b && push(sb == -1 ? u64{0} - a : static_cast<u64>(sa / sb));
      case kRemSigned:
        return b && push(sb == -1 ? 0 : static_cast<u64>(sa % sb));
      case kDivUnsigned:
        return b && push(a / b);
      case kRemUnsigned:
        return b && push(a % b);
      case kLsh:
        return push(b < 64 ? a << b : 0);
      case kRshSigned:
        return push(static_cast<u64>(sa >> (b < 64 ? b : 63)));
      case kRshUnsigned:
        return push(b < 64 ? a >> b : 0);
      case kBitAnd:
        return push(a & b);
      case kBitOr:
        return push(a | b);
      case kBitXor:
        return push(a ^ b);
      case kEqual:
        return push(a == b);
      case kLessSigned:
        return push(sa < sb);
      default:
        return push(a < b);
    }
  }

  std::string_view code_;
  const AgentContext& context_;
  std::size_t at_ = 0;
  std::array<u64, kStack> stack_;
  unsigned depth_ = 0;
};

}  // namespace

std::optional<u64> evaluate_agent_expression(std::string_view code, const AgentContext& context) {
  return Evaluation(code, context).run();
}

}  // namespace deja
