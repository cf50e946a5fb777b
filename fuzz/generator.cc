#include "fuzz/generator.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "execute/host/host_cpu.h"

namespace deja::fuzz {
namespace {

// SplitMix64: every case depends on its seed alone.
class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 next() {
    u64 z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  u64 below(u64 n) { return next() % n; }
  bool percent(unsigned p) { return below(100) < p; }

 private:
  u64 state_;
};

struct Decoded {
  ZydisDecodedInstruction insn;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  const ZydisDecodedOperand* memory() const {
    for (unsigned i = 0; i < insn.operand_count; i++)
      if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
          operands[i].encoding != ZYDIS_OPERAND_ENCODING_NONE)
        return &operands[i];
    return nullptr;
  }
  bool relative() const {
    return (insn.attributes & ZYDIS_ATTRIB_IS_RELATIVE) && insn.raw.imm[0].is_relative;
  }
};

const ZydisDecoder& decoder() {
  static const ZydisDecoder instance = [] {
    ZydisDecoder d;
    ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return d;
  }();
  return instance;
}

bool decode_one(const u8* bytes, std::size_t size, Decoded* out) {
  return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder(), bytes, size, &out->insn, out->operands));
}

bool host_has_named(std::string_view feature) {
  return std::ranges::any_of(kCpuFeatures,
                             [&](const CpuFeature& f) { return f.name == feature && host_has(f); });
}

// What x86-64-v3 has or, with the features that the host has, comparable_cpu().
bool in_model(const ZydisDecodedInstruction& insn, bool features) {
  switch (insn.meta.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_CLFSH:
    case ZYDIS_ISA_EXT_PAUSE:
      break;
    case ZYDIS_ISA_EXT_ADOX_ADCX:
      return features && host_has_named("adx");
    case ZYDIS_ISA_EXT_SHA:
      return features && host_has_named("sha-ni");
    default:
      return false;
  }
  switch (insn.meta.isa_set) {  // sub-features within those extensions
    case ZYDIS_ISA_SET_RDPMC:
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
      return false;
    default:
      return true;
  }
}

// What user code may do here with a result that is the same on every host.
bool portable(const Decoded& d) {
  if (d.insn.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) return false;
  switch (d.insn.meta.category) {
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
      return false;
    default:
      break;
  }
  if (d.insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return false;
  for (unsigned i = 0; i < d.insn.operand_count; i++)  // segment, control, debug, table registers
    if (d.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
      switch (ZydisRegisterGetClass(d.operands[i].reg.value)) {
        case ZYDIS_REGCLASS_SEGMENT:
          if (d.operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) break;
          [[fallthrough]];
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
        case ZYDIS_REGCLASS_TEST:
        case ZYDIS_REGCLASS_TABLE:
          if (d.operands[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) return false;
          break;
        default:
          break;
      }
  switch (d.insn.mnemonic) {
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    // Approximations, different on every maker's cores.
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_VRCPPS:
    case ZYDIS_MNEMONIC_VRCPSS:
    case ZYDIS_MNEMONIC_VRSQRTPS:
    case ZYDIS_MNEMONIC_VRSQRTSS:
    // x87 transcendentals likewise.
    case ZYDIS_MNEMONIC_FSIN:
    case ZYDIS_MNEMONIC_FCOS:
    case ZYDIS_MNEMONIC_FSINCOS:
    case ZYDIS_MNEMONIC_FPTAN:
    case ZYDIS_MNEMONIC_FPATAN:
    case ZYDIS_MNEMONIC_F2XM1:
    case ZYDIS_MNEMONIC_FYL2X:
    case ZYDIS_MNEMONIC_FYL2XP1:
    // Store FIP, FDP and FOP, which the machine shows as zero.
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
      return false;
    default:
      return true;
  }
}

Bytes random_legacy(Random& r) {
  Bytes b;
  static constexpr u8 kPrefix[] = {0x66, 0x66, 0x66, 0xf2, 0xf2, 0xf3, 0xf3,
                                   0xf0, 0x67, 0x64, 0x65, 0x2e, 0x3e};
  if (r.percent(55))
    for (u64 n = 1 + r.below(r.percent(20) ? 4 : 1); n > 0; n--)
      b.push_back(kPrefix[r.below(sizeof kPrefix)]);
  if (r.percent(55)) b.push_back(static_cast<u8>(0x40 | r.below(16)));
  switch (r.below(10)) {
    case 0:
    case 1:
    case 2:
      break;
    case 3:  // x87
      b.push_back(static_cast<u8>(0xd8 | r.below(8)));
      for (int i = 0; i < 8; i++) b.push_back(static_cast<u8>(r.next()));
      return b;
    case 4:
    case 5:
    case 6:
      b.push_back(0x0f);
      break;
    case 7:
    case 8:
      b.insert(b.end(), {0x0f, 0x38});
      break;
    default:
      b.insert(b.end(), {0x0f, 0x3a});
  }
  for (int i = 0; i < 12; i++) b.push_back(static_cast<u8>(r.next()));
  return b;
}

// VEX opcodes of which few ModRM bytes are valid, so that chance alone would bring them up too rarely.
struct RareVex {
  u8 map, opcode;
  bool vsib;
};
constexpr RareVex kRareVex[] = {{2, 0x90, true},  {2, 0x91, true},  {2, 0x92, true},  {2, 0x93, true},
                                {2, 0xf3, false}, {1, 0x71, false}, {1, 0x72, false}, {1, 0x73, false},
                                {1, 0xae, false}, {3, 0x14, false}, {3, 0x16, false}, {2, 0xdc, false},
                                {2, 0xdf, false}};

Bytes random_vex(Random& r) {
  Bytes b;
  b.reserve(24);
  if (r.percent(15)) b.push_back(r.percent(50) ? 0x67 : r.percent(50) ? 0x64 : 0x65);
  if (r.percent(10)) {
    const RareVex& rare = kRareVex[r.below(std::size(kRareVex))];
    const u8 pp = rare.opcode == 0xf3 || rare.opcode == 0xae ? 0 : 1;
    b.insert(b.end(), {0xc4, static_cast<u8>((r.next() & 0xe0) | rare.map),
                       static_cast<u8>((r.next() & 0xfc) | pp), rare.opcode});
    if (rare.vsib) b.push_back(static_cast<u8>((r.percent(50) ? 0x44 : 0x84) | (r.next() & 0x38)));
  } else {
    if (r.percent(25)) {
      b.push_back(0xc5);
    } else {
      b.push_back(0xc4);
      b.push_back(static_cast<u8>((r.next() & 0xe0) | (1 + r.below(3))));
    }
    u8 last = static_cast<u8>(r.next());
    if (r.percent(40)) last |= 0x78;  // vvvv unused
    b.push_back(last);
  }
  for (int i = 0; i < 10; i++) b.push_back(static_cast<u8>(r.next()));
  return b;
}

// One instruction that decodes and is eligible.
Bytes random_insn(Random& r, bool features) {
  for (;;) {
    Bytes b = r.percent(40) ? random_vex(r) : random_legacy(r);
    Decoded d;
    if (!decode_one(b.data(), std::min<std::size_t>(b.size(), 15), &d)) continue;
    if (!in_model(d.insn, features) || !portable(d)) continue;
    // Register forms come up in a quarter of all ModRM bytes only; memory forms that fault end the test
    // early.
    if (d.memory() && r.percent(40)) continue;
    if (d.insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR && r.percent(70)) continue;
    if (d.insn.meta.category == ZYDIS_CATEGORY_RET && r.percent(80)) continue;
    b.resize(d.insn.length);
    return b;
  }
}

u64 interesting(Random& r) {
  switch (r.below(8)) {
    case 0:
      return r.next();
    case 1:
      return r.below(64);
    case 2:
      return ~r.below(64);
    case 3:
      return u64{1} << r.below(64);
    case 4:
      return (u64{1} << r.below(64)) - 1;
    case 5:
      return 0x8000000080008080;
    case 6:
      return r.next() >> r.below(64);
    default:
      return static_cast<u64>(static_cast<i64>(r.next()) >> r.below(64));
  }
}

// An address in the data pages; often just before the end of a page or of the region.
u64 data_pointer(Random& r) {
  switch (r.below(8)) {
    case 0:
      return kDataAddress + kPageSize - r.below(40);
    case 1:
      return kDataAddress + kDataSize - 1 - r.below(48);
    case 2:
      return kDataAddress + r.below(16);
    case 3:
      return kDataAddress + r.below(kDataSize);
    default:
      return kDataAddress + 64 * r.below(kDataSize / 64);
  }
}

void random_float(Random& r, u8* to, unsigned bytes) {
  static constexpr u32 kSingle[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                    0xff800000, 0x7fc00000, 0x7fa00000, 1,          0x007fffff,
                                    0x00800000, 0x7f7fffff, 0x4b000000, 0x4effffff};
  static constexpr u64 kDouble[] = {0,
                                    0x8000000000000000,
                                    0x3ff0000000000000,
                                    0xbff8000000000000,
                                    0x7ff0000000000000,
                                    0xfff0000000000000,
                                    0x7ff8000000000000,
                                    0x7ff4000000000000,
                                    1,
                                    0x000fffffffffffff,
                                    0x0010000000000000,
                                    0x7fefffffffffffff,
                                    0x41dfffffffc00000,
                                    0x43e0000000000000};
  for (unsigned i = 0; i < bytes; i += 8) {
    u64 v;
    switch (r.below(5)) {
      case 0:
        v = r.next();
        break;
      case 1:
        v = u64{kSingle[r.below(std::size(kSingle))]} | u64{kSingle[r.below(std::size(kSingle))]} << 32;
        break;
      case 2:
        v = kDouble[r.below(std::size(kDouble))];
        break;
      case 3:
        v = std::bit_cast<u64>(static_cast<double>(static_cast<i32>(r.next())) / 8);
        break;
      default:
        v = interesting(r);
    }
    std::memcpy(to + i, &v, std::min(8u, bytes - i));
  }
}

void random_x87(Random& r, u8* st) {
  u64 mantissa = r.next() | u64{1} << 63;
  u16 exponent = static_cast<u16>(0x3fff - 40 + r.below(80));
  switch (r.below(8)) {
    case 0:
      mantissa = 0, exponent = 0;
      break;
    case 1:
      mantissa = u64{1} << 63, exponent = 0x7fff;
      break;  // infinity
    case 2:
      exponent = 0x7fff;
      break;  // NaN
    case 3:
      mantissa >>= 1 + r.below(60), exponent = 0;
      break;  // denormal
    case 4:
      mantissa = u64{1} << 63 | r.below(1024) << 53;
      break;  // short
    case 5:
      if (r.percent(20)) mantissa &= ~(u64{1} << 63);
      break;  // unnormal: invalid
    default:
      break;
  }
  if (r.percent(50)) exponent |= 0x8000;
  std::memcpy(st, &mantissa, 8);
  std::memcpy(st + 8, &exponent, 2);
}

void random_state(Random& r, TestCase& t) {
  UserState& s = t.initial;
  for (u64& g : s.gpr) g = r.percent(50) ? data_pointer(r) : r.percent(40) ? r.below(32) : interesting(r);
  if (r.percent(92)) s.gpr[RSP] = kDataAddress + 0x800 + 8 * r.below(0x200);
  for (const Bytes& b : t.insns) {
    Decoded d;
    if (!decode_one(b.data(), b.size(), &d)) continue;
    if (d.insn.meta.category == ZYDIS_CATEGORY_STRINGOP) {
      if (r.percent(90)) s.gpr[RCX] = r.percent(80) ? r.below(40) : r.below(3000);
      if (r.percent(90)) s.gpr[RSI] = data_pointer(r);
      if (r.percent(90)) s.gpr[RDI] = data_pointer(r);
    }
  }
  s.rflags = flag::kReserved1 | flag::IF | (r.next() & flag::kStatus) | (r.percent(15) ? flag::DF : 0);
  if (r.percent(2)) s.rflags |= flag::AC;
  if (r.percent(2)) s.rflags |= flag::TF;

  FpuState& f = s.fpu;
  f.fcw = static_cast<u16>(
      r.percent(60) ? 0x37f : 0x40 | (r.next() & 0xf00) | (r.percent(70) ? 0x3f : r.next() & 0x3f));
  // Precision control 01b is reserved.
  if ((f.fcw & 0x300) == 0x100) f.fcw |= 0x300;
  f.fsw = static_cast<u16>(r.below(8) << 11 | (r.percent(30) ? r.next() & 0x4700 : 0));
  if (r.percent(10)) f.fsw |= r.next() & 0x3f & f.fcw;  // exception flags that are masked: none pending
  f.ftw = static_cast<u8>(r.percent(30) ? 0xff : r.percent(30) ? 0 : r.next());
  for (auto& st : f.st) random_x87(r, st);
  f.mxcsr = r.percent(50) ? 0x1f80 : static_cast<u32>((r.next() & 0xffff) | (r.percent(80) ? 0x1f80 : 0));
  for (auto& y : f.ymm) {
    random_float(r, y, 32);
    if (r.percent(20)) {  // small integers: indices of gathers, shift counts, shuffle controls
      const unsigned lane = r.percent(50) ? 4 : 8;
      std::memset(y, 0, sizeof y);
      for (unsigned i = 0; i < 32; i += lane) y[i] = static_cast<u8>(r.below(64));
    }
  }
  random_float(r, t.data.data(), kDataSize);
}

// Where a test begins: a few end in the first code page's last bytes and go on in the second.
u64 random_start(Random& r) {
  return r.percent(85) ? kCodeAddress + 16 * r.below(100) : kCodeAddress + kPageSize - 1 - r.below(80);
}

std::optional<u64> register_value(const TestCase& t, ZydisRegister reg, unsigned width, u64 next_rip) {
  if (reg == ZYDIS_REGISTER_NONE) return 0;
  if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) return next_rip;
  const auto reg_class = ZydisRegisterGetClass(reg);
  if (reg_class != ZYDIS_REGCLASS_GPR64 && reg_class != ZYDIS_REGCLASS_GPR32) return std::nullopt;  // VSIB
  const u64 v = t.initial.gpr[ZydisRegisterGetId(reg)];
  return width == 32 ? v & 0xffffffff : v;
}

// Makes the displacement lead to the data pages, as far as registers still hold what they start with.
void patch_memory(Random& r, TestCase& t, Bytes& b, const Decoded& d, u64 address) {
  const ZydisDecodedOperand* m = d.memory();
  const unsigned offset = d.insn.raw.disp.offset, bits = d.insn.raw.disp.size;
  if (!m || !bits) return;
  const auto base = register_value(t, m->mem.base, d.insn.address_width, address + b.size());
  const auto index = register_value(t, m->mem.index, d.insn.address_width, 0);
  if (!base) return;
  u64 rest = *base + (index ? *index * m->mem.scale : 0);
  if (m->mem.segment == ZYDIS_REGISTER_FS) rest += kFsBase;
  if (m->mem.segment == ZYDIS_REGISTER_GS) rest += kGsBase;
  u64 target = data_pointer(r);
  if (r.percent(60)) target &= ~u64{31};  // many SSE forms want alignment
  // Linux makes a process that locks the bus by a split access wait for 10 ms: keep those few.
  const bool locked = (d.insn.attributes & ZYDIS_ATTRIB_HAS_LOCK) || d.insn.mnemonic == ZYDIS_MNEMONIC_XCHG;
  if (locked && !r.percent(2)) target &= ~u64{15};
  const u64 disp = target - rest;
  const auto fits = [&](unsigned n) {
    return static_cast<u64>(static_cast<i64>(disp << (64 - n)) >> (64 - n)) == disp;
  };
  // A displacement of 8 bits stays random, unless it happens to fit; 32-bit addresses wrap.
  if (bits < 64 && !fits(bits) && !(bits == 32 && d.insn.address_width == 32)) return;
  std::memcpy(&b[offset], &disp, bits / 8);
}

void patch_branch(Random& r, const TestCase& t, Bytes& b, const Decoded& d, unsigned index) {
  // To an instruction further on, or to the sentinel.
  const unsigned to = index + 1 + static_cast<unsigned>(r.below(t.insns.size() - index));
  i64 distance = 0;
  for (unsigned i = index + 1; i < to; i++) distance += static_cast<i64>(t.insns[i].size());
  std::memcpy(&b[d.insn.raw.imm[0].offset], &distance, d.insn.raw.imm[0].size / 8);
}

void patch_all(Random& r, TestCase& t) {
  u64 address = t.start;
  for (unsigned i = 0; i < t.insns.size(); i++) {
    Bytes& b = t.insns[i];
    Decoded d;
    DEJA_CHECK(decode_one(b.data(), b.size(), &d));
    if (d.relative()) patch_branch(r, t, b, d, i);
    patch_memory(r, t, b, d, address);
    address += b.size();
  }
}

}  // namespace

TestCase generate(u64 seed, bool features) {
  Random r(seed);
  TestCase t;
  t.seed = seed;
  const u64 count = r.percent(40) ? 1 : 1 + r.below(16);
  for (u64 i = 0; i < count; i++) t.insns.push_back(random_insn(r, features));
  t.start = random_start(r);
  random_state(r, t);
  t.initial.rip = t.start;
  patch_all(r, t);
  return t;
}

TestCase keep_only(const TestCase& test, const std::vector<unsigned>& indices) {
  TestCase t = test;
  t.insns.clear();
  for (unsigned i : indices)
    if (i < test.insns.size()) t.insns.push_back(test.insns[i]);
  Random r(test.seed ^ 0x6b656570);
  u64 address = t.start;
  for (unsigned i = 0; i < t.insns.size(); i++) {
    Decoded d;
    Bytes& b = t.insns[i];
    DEJA_CHECK(decode_one(b.data(), b.size(), &d));
    if (d.relative()) patch_branch(r, t, b, d, i);
    // RIP-relative operands go on meaning the same address.
    const ZydisDecodedOperand* m = d.memory();
    if (m && (m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP)) {
      u64 before = test.start;
      for (unsigned j = 0; j < indices[i]; j++) before += test.insns[j].size();
      const u32 disp = static_cast<u32>(static_cast<u64>(m->mem.disp.value) + before - address);
      std::memcpy(&b[d.insn.raw.disp.offset], &disp, 4);
    }
    address += b.size();
  }
  return t;
}

}  // namespace deja::fuzz
