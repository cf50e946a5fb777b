#include <random>

#include "semantics/fpu/fpu_extended.h"
#include "semantics/fpu/fpu_state.h"
#include "semantics/vcpu_for_test.h"

namespace deja {
namespace {

enum Op { kFsin, kFcos, kFsincos, kFptan, kFpatan, kF2xm1, kFyl2x, kFyl2xp1, kOps };
// Second byte of D9 xx, in the order of Op.
constexpr u8 kOpcode[kOps] = {0xfe, 0xff, 0xfb, 0xf2, 0xf3, 0xf0, 0xf1, 0xf9};
bool is_binary(Op op) { return op == kFpatan || op >= kFyl2x; }

// The host's own instruction.
void run_native(FpuState& f, Op op) {
  host_x87_load(f);
  switch (op) {
    case kFsin:
      asm volatile("fsin");
      break;
    case kFcos:
      asm volatile("fcos");
      break;
    case kFsincos:
      asm volatile("fsincos");
      break;
    case kFptan:
      asm volatile("fptan");
      break;
    case kFpatan:
      asm volatile("fpatan");
      break;
    case kF2xm1:
      asm volatile("f2xm1");
      break;
    case kFyl2x:
      asm volatile("fyl2x");
      break;
    default:
      asm volatile("fyl2xp1");
      break;
  }
  host_x87_save(f);
  asm volatile("fninit");
}

Extended st(const FpuState& f, unsigned i) {
  Extended x;
  std::memcpy(&x.significand, f.st[i], 8);
  std::memcpy(&x.sign_exponent, f.st[i] + 8, 2);
  return x;
}
void set_st(FpuState& f, unsigned i, const Extended& x) {
  std::memcpy(f.st[i], &x.significand, 8);
  std::memcpy(f.st[i] + 8, &x.sign_exponent, 2);
}

// Distance in units of the last place between values of the same sign; huge when they are unlike.
u64 distance(const Extended& a, const Extended& b) {
  if (is_negative(a) != is_negative(b)) return ~u64{0};
  const i128 x = i128{a.sign_exponent & 0x7fff} << 63 | (a.significand & ~(u64{1} << 63));
  const i128 y = i128{b.sign_exponent & 0x7fff} << 63 | (b.significand & ~(u64{1} << 63));
  const i128 d = x > y ? x - y : y - x;
  return d > 1000 ? ~u64{0} : static_cast<u64>(d);
}

constexpr u64 kTop = u64{1} << 63;
constexpr Extended kOneE = {kTop, 0x3fff};

class Transcendental : public HelperTest {
 protected:
  std::optional<GuestFault> run(Op op) { return HelperTest::run(find_fpu_helper, {0xd9, kOpcode[op]}); }
  // ST0 = x, ST1 = y, the other registers empty but not zero.
  FpuState operands(const Extended& x, const Extended& y, u16 fcw = 0x37f) {
    FpuState f;
    for (unsigned i = 0; i < 8; ++i) set_st(f, i, {kTop | (i + 1), static_cast<u16>(0x4000 + i)});
    set_st(f, 0, x);
    set_st(f, 1, y);
    f.fcw = fcw;
    f.fsw = 6 << fsw::kTopShift | fsw::C0 | fsw::C3;
    f.ftw = 0xc0;
    return f;
  }
  Extended result(Op op, const Extended& x, const Extended& y, u16 fcw = 0x37f) {
    state.fpu = operands(x, y, fcw);
    EXPECT_FALSE(run(op).has_value());
    return st(state.fpu, 0);
  }
};

// Correctly rounded results, computed with mpmath at 700 bits.
struct Vector {
  Op op;
  Extended y, x, result;
};
constexpr Vector kVectors[] = {
    {kFsin, {0x0, 0x0}, {0xadc5fd3d9974d75b, 0xbf9d}, {0xadc5fd3d9974d75b, 0xbf9d}},
    {kFsin, {0x0, 0x0}, {0x9fb932d4f0397722, 0x4023}, {0xfe7d2660b5776ff7, 0x3ffe}},
    {kFsin, {0x0, 0x0}, {0xe35b4c41d283eb3a, 0x4036}, {0xa7dc8201f038e286, 0x3ffe}},
    {kFsin, {0x0, 0x0}, {0xf2655b19153d3a3f, 0xc006}, {0xf271ad73c781645a, 0x3ffd}},
    {kFsin, {0x0, 0x0}, {0x81f35efe8ed5f036, 0xc005}, {0xd727ad68430b01c7, 0xbffe}},
    {kFsin, {0x0, 0x0}, {0x8d2329d9fa09ca46, 0x400f}, {0x8dd7f5d1b26b0f70, 0xbffe}},
    {kFsin, {0x0, 0x0}, {0xffffffffffffffff, 0xbfb2}, {0xffffffffffffffff, 0xbfb2}},
    {kFsin, {0x0, 0x0}, {0xece8571befca6c3a, 0xc025}, {0x8ec80a39b2e5fae5, 0xbffe}},
    {kFcos, {0x0, 0x0}, {0x9ace73ff60b965de, 0x4023}, {0xaed82c2ce408a1d9, 0x3fe0}},
    {kFcos, {0x0, 0x0}, {0x8000000000000006, 0xc034}, {0x8605f7d06ccefd29, 0xbffe}},
    {kFcos, {0x0, 0x0}, {0xc0a528c89661fbc8, 0x4021}, {0xf892895b4b182270, 0xbfe0}},
    {kFcos, {0x0, 0x0}, {0xd635823a662b78f5, 0x4030}, {0xffff3d3c0365a442, 0x3ffe}},
    {kFcos, {0x0, 0x0}, {0x899fa987e12b6479, 0x3fed}, {0xfffffffff6c0771f, 0x3ffe}},
    {kFcos, {0x0, 0x0}, {0xb5cbfca3b2990cfb, 0x4034}, {0xaeb0338a0b218bf5, 0xbff1}},
    {kFcos, {0x0, 0x0}, {0xdfcd8c1b1b12590a, 0xc01a}, {0xf5494335fed351d8, 0x3ffe}},
    {kFcos, {0x0, 0x0}, {0xf014b2fce1ecfcf8, 0x3f98}, {0x8000000000000000, 0x3fff}},
    {kFptan, {0x0, 0x0}, {0xeaadaf4ca83c11d2, 0xc018}, {0xac7b114d3365c233, 0x3fff}},
    {kFptan, {0x0, 0x0}, {0x9cc1ccd600ed2076, 0xc03d}, {0xc466e27dba98c6ee, 0x4001}},
    {kFptan, {0x0, 0x0}, {0xc8ed57cc82d87edc, 0x3fca}, {0xc8ed57cc82d87edc, 0x3fca}},
    {kFptan, {0x0, 0x0}, {0x87f1a6ad8f749e31, 0xc01f}, {0xa7d0f3c1c525bf6f, 0xbffe}},
    {kFptan, {0x0, 0x0}, {0xa1cac1ee76e24c46, 0x4006}, {0x8a722054d72820f8, 0x4038}},
    {kFptan, {0x0, 0x0}, {0x8eed8d91f60d226b, 0x4015}, {0xd1e8a94d81a8488a, 0xc004}},
    {kFptan, {0x0, 0x0}, {0x8000000000000006, 0x402e}, {0x855a53e4c64e7ef9, 0x3ffb}},
    {kFptan, {0x0, 0x0}, {0xcea432e2ad6f5909, 0x4012}, {0x9c324083bc98d370, 0x402c}},
    {kFpatan, {0x81023f71bbd5928a, 0x54a5}, {0xffffffffffffffff, 0xd46b}, {0xc90fdaa22168c274, 0x3fff}},
    {kFpatan, {0xc169b0e48e25e591, 0x1e37}, {0x8000000000000001, 0x9e1f}, {0xc90fdaf6d72a4ed8, 0x3fff}},
    {kFpatan, {0xc68d013732bfda1c, 0x7663}, {0xfffffffffffffffc, 0x76e5}, {0xc68d013732bfda1f, 0x3f7c}},
    {kFpatan, {0xdef17a635a99c10f, 0x9619}, {0xa00411b7cf36ae3e, 0x9626}, {0xc90d114925097ed9, 0xc000}},
    {kFpatan, {0xfffffffffffffffe, 0x5312}, {0xbba61b3671a01618, 0x5325}, {0xae9fc0d16cb95640, 0x3fec}},
    {kFpatan, {0xe3ea9d91e01c5eeb, 0x9571}, {0x8000000000000007, 0x14e7}, {0xc90fdaa22168c235, 0xbfff}},
    {kFpatan, {0xcbb516118e56321d, 0xe86b}, {0xd13c459baefd6267, 0xe872}, {0xc8933cfd67804567, 0xc000}},
    {kFpatan, {0xba04c24e9c3ad3f3, 0x236d}, {0xeb4a259d66488304, 0xa361}, {0xc919f9172001e530, 0x3fff}},
    {kF2xm1, {0x0, 0x0}, {0xba0deed98644fd48, 0x3ffe}, {0xa7a9dc7b24fb5126, 0x3ffe}},
    {kF2xm1, {0x0, 0x0}, {0xd2f40238402098bd, 0xbffc}, {0x8842eda4b1798780, 0xbffc}},
    {kF2xm1, {0x0, 0x0}, {0x89ca1871f17c705e, 0x3ffc}, {0xc8355346d471927d, 0x3ffb}},
    {kF2xm1, {0x0, 0x0}, {0xe67552e944aa7e4b, 0x3ffe}, {0xddc9ce21699e95ed, 0x3ffe}},
    {kF2xm1, {0x0, 0x0}, {0x8000000000000002, 0xbffe}, {0x95f619980c4336f9, 0xbffd}},
    {kF2xm1, {0x0, 0x0}, {0xffffffffffffffff, 0x3f97}, {0xb17217f7d1cf79ab, 0x3f97}},
    {kF2xm1, {0x0, 0x0}, {0xdbdcbd00049f8bc0, 0x3fb1}, {0x98659b8ed85b2063, 0x3fb1}},
    {kF2xm1, {0x0, 0x0}, {0x876fbff105836a0c, 0xbffe}, {0x9d2d9a9719aaeab0, 0xbffd}},
    {kFyl2x, {0xf1d81e3eaa47a749, 0xbfee}, {0x9f381a3762280b86, 0x61de}, {0xfffe9a75918ae8f5, 0xbffb}},
    {kFyl2x, {0xb194377a9adf7e7e, 0x3fda}, {0xc66fc25765fbfb7a, 0x23d0}, {0x9c62ffa3b0645bac, 0xbfe7}},
    {kFyl2x, {0x8000000000000001, 0xbfe5}, {0xffffffffffffffff, 0x6651}, {0x994c000000000001, 0xbff2}},
    {kFyl2x, {0xee01d045ff4ea7c4, 0x3fe4}, {0x9acc87646a55c6a9, 0x3fff}, {0x828c38922198d819, 0x3fe3}},
    {kFyl2x, {0x8000000000000007, 0x3fed}, {0xa886c90fba2ac843, 0x480}, {0xedfa69a4f33b2437, 0xbffa}},
    {kFyl2x, {0xca6f1511e36fc0cc, 0x402f}, {0x8000000000000002, 0x3ffe}, {0xca6f1511e36fc0c7, 0xc02f}},
    {kFyl2x, {0x8000000000000004, 0x3fdf}, {0xb9943c2156776804, 0x6590}, {0x964624c05828a7f9, 0x3fec}},
    {kFyl2x, {0xffffffffffffffff, 0xbff3}, {0xbb3cbd042587864e, 0x69c2}, {0xa70e31e4a2f011ed, 0xc001}},
    {kFyl2xp1, {0xa287f36b2101d20c, 0xbfdd}, {0x820270d08c510d73, 0x3ffd}, {0xd43bd05d29432f6b, 0xbfdb}},
    {kFyl2xp1, {0xc3deb34820dabcc7, 0x3fd8}, {0xe57064e50785b7ba, 0xbf83}, {0xfd43038a015ee05b, 0xbf5d}},
    {kFyl2xp1, {0xb774cf7100ccaf1a, 0x3fe0}, {0x8000000000000006, 0xbfe8}, {0x8455f394df14cda1, 0xbfca}},
    {kFyl2xp1, {0x92e9de5c48c399df, 0x4025}, {0xd2cdb3499376578b, 0x3fdd}, {0xae881c6051f62e68, 0x4004}},
    {kFyl2xp1, {0xad742f314391bc76, 0xbfd7}, {0xfd577d50b86a14ed, 0xbfed}, {0xf7a4bbf56741e10a, 0x3fc6}},
    {kFyl2xp1, {0xc5352f442c023a1f, 0xbfea}, {0x8750323728cfd740, 0xbffd}, {0xaea3846a591244a9, 0x3fe9}},
    {kFyl2xp1, {0xa94e3f5666ae565b, 0xbfe2}, {0xc712841a76f32e81, 0x3fc4}, {0xbdf0b218195af45c, 0xbfa8}},
    {kFyl2xp1, {0xb654c3be3e95fe00, 0xbff8}, {0x8000000000000003, 0xbffd}, {0x9759371f9ab5e32e, 0x3ff7}},
};

TEST_F(Transcendental, CorrectlyRounded) {
  for (const Vector& v : kVectors) {
    state.fpu = operands(v.x, v.y);
    ASSERT_FALSE(run(v.op).has_value());
    const Extended got = st(state.fpu, v.op == kFptan ? 1 : 0);
    EXPECT_EQ(got.significand, v.result.significand) << "op " << v.op << " x " << std::hex << v.x.significand;
    EXPECT_EQ(got.sign_exponent, v.result.sign_exponent);
    EXPECT_TRUE(state.fpu.fsw & fsw::PE);
  }
}

TEST_F(Transcendental, DirectedRoundingBracketsTheResult) {
  for (const Vector& v : kVectors) {
    Extended r[4];
    bool up[4];
    for (unsigned rc = 0; rc < 4; ++rc) {
      state.fpu = operands(v.x, v.y, static_cast<u16>(0x37f | rc << 10));
      ASSERT_FALSE(run(v.op).has_value());
      r[rc] = st(state.fpu, v.op == kFptan ? 1 : 0);
      up[rc] = state.fpu.fsw & fsw::C1;
    }
    // Down and up differ by one unit; towards zero is one of them, nearest is either.
    EXPECT_EQ(distance(r[1], r[2]), 1u);
    const unsigned truncated = is_negative(r[3]) ? 2 : 1;
    EXPECT_EQ(distance(r[3], r[truncated]), 0u);
    EXPECT_FALSE(up[3]);
    EXPECT_FALSE(up[truncated]);
    EXPECT_TRUE(up[3 - truncated]);
    EXPECT_EQ(distance(r[0], r[up[0] ? 3 - truncated : truncated]), 0u);
  }
}

// Operands that the SDM's tables name, and their neighbours, for every instruction against the host: result
// class, stack, and exceptions. Inexactness apart: hardware sets PE even where the result is exact, and C1
// freely.
constexpr Extended kSpecial[] = {
    {0, 0},
    {0, 0x8000},
    {kTop, 0x3fff},
    {kTop, 0xbfff},
    {kTop, 0x3ffe},
    {kTop, 0xbffd},
    {kTop, 0x4000},
    {kTop, 0xc000},
    {kTop, 0x7fff},
    {kTop, 0xffff},
    {3ull << 62, 0x7fff},
    {3ull << 62 | 5, 0xffff},
    {kTop | 0x123, 0x7fff},
    {kTop | 0x124, 0xffff},
    {0x123, 0},
    {0x123, 0x8000},
    {kTop | 5, 0},
    {0x4000000000000000, 0x4000},
    {0, 0x7fff},
    {kTop, 0x3fff + 63},
    {kTop, 0xbfff + 63},
    {~u64{0}, 0x7ffe},
    {kTop, 1},
    {~u64{0}, 0x3ffc},
};

TEST_F(Transcendental, SpecialOperandsActAsOnTheHost) {
  const u16 controls[] = {0x37f, 0x37e, 0x37d, 0x37b, 0x36f, 0x377, 0x35f, 0x340};
  for (unsigned o = 0; o < kOps; ++o) {
    const Op op = static_cast<Op>(o);
    for (const Extended& x : kSpecial) {
      for (const Extended& y : kSpecial) {
        if (!is_binary(op) && &y != kSpecial) continue;
        for (const u16 fcw : controls) {
          FpuState native = operands(x, y, fcw);
          state.fpu = native;
          run_native(native, op);
          ASSERT_FALSE(run(op).has_value());
          FpuState ours = state.fpu;
          u16 ignored = fsw::C1 | fsw::PE;
          // A masked underflow needs an inexact result; the host's notion of that is PE's.
          if (!(ours.fsw & fsw::PE)) ignored |= fsw::UE;
          if (fcw == 0x35f || fcw == 0x340) ignored |= fsw::ES | fsw::B;
          SCOPED_TRACE(fmt::format(
              "op {} fcw {:x} x {:04x}.{:016x} y {:04x}.{:016x}: host fsw {:04x} ours {:04x}", o, fcw,
              x.sign_exponent, x.significand, y.sign_exponent, y.significand, native.fsw, ours.fsw));
          EXPECT_EQ(native.fsw & ~ignored, ours.fsw & ~ignored);
          EXPECT_EQ(native.ftw, ours.ftw);
          for (unsigned i = 0; i < 8; ++i) {
            const Extended a = st(native, i), b = st(ours, i);
            EXPECT_LE(distance(a, b), 1u)
                << fmt::format("ST{} host {:04x}.{:016x} ours {:04x}.{:016x}", i, a.sign_exponent,
                               a.significand, b.sign_exponent, b.significand);
          }
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(Transcendental, NormalOperandsAgreeWithTheHostWithinAnUlp) {
  std::mt19937_64 rng(42);
  for (int round = 0; round < 20000; ++round) {
    const Op op = static_cast<Op>(rng() % kOps);
    // Hardware reduces angles by a 66-bit pi, so only small ones compare.
    const int range = op <= kFptan ? 20 : 40;
    Extended x = {rng() | kTop, static_cast<u16>(0x3ffe - rng() % range)};
    const Extended y = {rng() | kTop, static_cast<u16>(0x3fff - 40 + rng() % 80)};
    if (op <= kF2xm1 || (op == kFyl2xp1 && x.sign_exponent < 0x3ffd)) x = with_sign(x, rng() & 1);
    if (op == kFyl2x || op == kFpatan) x.sign_exponent = static_cast<u16>(0x3fff - 40 + rng() % 80);
    if (op <= kFptan && x.sign_exponent % 0x8000 == 0x3ffe) x.sign_exponent -= 1;
    FpuState native = operands(x, y);
    state.fpu = native;
    run_native(native, op);
    ASSERT_FALSE(run(op).has_value());
    for (unsigned i = 0; i < 2; ++i)
      ASSERT_LE(distance(st(native, i), st(state.fpu, i)), 1u)
          << fmt::format("op {} x {:04x}.{:016x} y {:04x}.{:016x}", int{op}, x.sign_exponent, x.significand,
                         y.sign_exponent, y.significand);
    ASSERT_EQ(native.fsw & ~fsw::C1, state.fpu.fsw & ~fsw::C1) << int{op};
  }
}

TEST_F(Transcendental, StackFaultsActAsOnTheHost) {
  for (unsigned o = 0; o < kOps; ++o) {
    for (const u8 ftw : {0x00, 0x40, 0x80, 0xc0, 0xe0, 0x20, 0xff}) {
      for (const u16 fcw : {0x37f, 0x37e}) {
        FpuState native = operands(kOneE, kOneE, fcw);
        native.ftw = ftw;
        native.fsw |= fsw::C1 | fsw::C2;
        state.fpu = native;
        run_native(native, static_cast<Op>(o));
        ASSERT_FALSE(run(static_cast<Op>(o)).has_value());
        SCOPED_TRACE(fmt::format("op {} ftw {:x} fcw {:x}: host fsw {:04x} ours {:04x}", o, ftw, fcw,
                                 native.fsw, state.fpu.fsw));
        // C1 tells underflow from overflow; without a stack fault it is the rounding.
        const u16 ignored = native.fsw & fsw::SF ? 0 : fsw::C1 | fsw::PE;
        EXPECT_EQ(native.fsw & ~ignored, state.fpu.fsw & ~ignored);
        EXPECT_EQ(native.ftw, state.fpu.ftw);
        for (unsigned i = 0; i < 8; ++i)
          EXPECT_LE(distance(st(native, i), st(state.fpu, i)), 1u) << "ST" << i;
      }
    }
  }
}

TEST_F(Transcendental, ExactResultsAreExact) {
  EXPECT_EQ(distance(result(kF2xm1, kOneE, {}), kOneE), 0u);
  EXPECT_FALSE(state.fpu.fsw & fsw::PE);
  EXPECT_EQ(distance(result(kFyl2x, {kTop, 0x3fff - 5}, {3ull << 62, 0x3fff}), {15ull << 60, 0xc001}),
            0u);  // 1.5 * -5
  EXPECT_FALSE(state.fpu.fsw & fsw::PE);
  EXPECT_EQ(distance(result(kFcos, {}, {}), kOneE), 0u);
  EXPECT_FALSE(state.fpu.fsw & fsw::PE);
}

TEST_F(Transcendental, TinyAnglesRoundInTheRightDirection) {
  const Extended tiny = {kTop | 7, 0x3fff - 200};
  EXPECT_EQ(distance(result(kFsin, tiny, {}, 0x37f), tiny), 0u);
  EXPECT_TRUE(state.fpu.fsw & fsw::C1);
  EXPECT_EQ(result(kFsin, tiny, {}, 0xf7f).significand, kTop | 6);
  EXPECT_EQ(result(kFcos, tiny, {}, 0x77f).significand, ~u64{0});
  EXPECT_EQ(result(kFcos, tiny, {}, 0xb7f).significand, kTop);
}

TEST_F(Transcendental, PendingAndUnavailable) {
  state.fpu = operands(kOneE, kOneE, 0x37e);
  state.fpu.fsw |= fsw::IE | fsw::ES | fsw::B;
  EXPECT_FAULT(run(kFsin), kMF);
  state.cr0 |= cr0bit::TS;
  EXPECT_FAULT(run(kFsin), kNM);
  EXPECT_EQ(distance(st(state.fpu, 0), kOneE), 0u);
}

}  // namespace
}  // namespace deja
