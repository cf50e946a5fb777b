// The host's own undefined flags (docs/undefined-flags.md): every instruction concerned, executed on the
// host.
#include "execute/host/host_flags.h"

#include "decode/flag_groups.h"
#include "translate/flag_fixes.h"

namespace deja {
namespace {

// AX and DX are the two results; the 8-bit forms of MUL and DIV have the high half in AH.
#define DEJA_HOST_OP(text)                                               \
  [](u64 a, u64 b, u64 c, u64 status) {                                  \
    u64 flags = status | flag::kReserved1 | flag::IF;                    \
    /* Below the red zone, which PUSHF would overwrite. */               \
    asm volatile("lea -128(%%rsp), %%rsp\n\tpush %[f]\n\tpopfq\n\t" text \
                 "\n\tpushfq\n\tpop %[f]\n\tlea 128(%%rsp), %%rsp"       \
                 : "+a"(a), "+d"(c), [f] "+r"(flags)                     \
                 : "c"(b)                                                \
                 : "cc", "memory");                                      \
    return FlagOpResult{a, c, flags & flag::kStatus};                    \
  }

constexpr HostFlagOp kOps[] = {
    {"and8", ZYDIS_MNEMONIC_AND, 1, -1, DEJA_HOST_OP("andb %%cl, %%al")},
    {"and16", ZYDIS_MNEMONIC_AND, 2, -1, DEJA_HOST_OP("andw %%cx, %%ax")},
    {"and32", ZYDIS_MNEMONIC_AND, 4, -1, DEJA_HOST_OP("andl %%ecx, %%eax")},
    {"and64", ZYDIS_MNEMONIC_AND, 8, -1, DEJA_HOST_OP("andq %%rcx, %%rax")},
    {"or8", ZYDIS_MNEMONIC_OR, 1, -1, DEJA_HOST_OP("orb %%cl, %%al")},
    {"or16", ZYDIS_MNEMONIC_OR, 2, -1, DEJA_HOST_OP("orw %%cx, %%ax")},
    {"or32", ZYDIS_MNEMONIC_OR, 4, -1, DEJA_HOST_OP("orl %%ecx, %%eax")},
    {"or64", ZYDIS_MNEMONIC_OR, 8, -1, DEJA_HOST_OP("orq %%rcx, %%rax")},
    {"xor8", ZYDIS_MNEMONIC_XOR, 1, -1, DEJA_HOST_OP("xorb %%cl, %%al")},
    {"xor16", ZYDIS_MNEMONIC_XOR, 2, -1, DEJA_HOST_OP("xorw %%cx, %%ax")},
    {"xor32", ZYDIS_MNEMONIC_XOR, 4, -1, DEJA_HOST_OP("xorl %%ecx, %%eax")},
    {"xor64", ZYDIS_MNEMONIC_XOR, 8, -1, DEJA_HOST_OP("xorq %%rcx, %%rax")},
    {"test8", ZYDIS_MNEMONIC_TEST, 1, -1, DEJA_HOST_OP("testb %%cl, %%al")},
    {"test16", ZYDIS_MNEMONIC_TEST, 2, -1, DEJA_HOST_OP("testw %%cx, %%ax")},
    {"test32", ZYDIS_MNEMONIC_TEST, 4, -1, DEJA_HOST_OP("testl %%ecx, %%eax")},
    {"test64", ZYDIS_MNEMONIC_TEST, 8, -1, DEJA_HOST_OP("testq %%rcx, %%rax")},
    {"shl8", ZYDIS_MNEMONIC_SHL, 1, -1, DEJA_HOST_OP("shlb %%cl, %%al")},
    {"shl16", ZYDIS_MNEMONIC_SHL, 2, -1, DEJA_HOST_OP("shlw %%cl, %%ax")},
    {"shl32", ZYDIS_MNEMONIC_SHL, 4, -1, DEJA_HOST_OP("shll %%cl, %%eax")},
    {"shl64", ZYDIS_MNEMONIC_SHL, 8, -1, DEJA_HOST_OP("shlq %%cl, %%rax")},
    {"shr8", ZYDIS_MNEMONIC_SHR, 1, -1, DEJA_HOST_OP("shrb %%cl, %%al")},
    {"shr16", ZYDIS_MNEMONIC_SHR, 2, -1, DEJA_HOST_OP("shrw %%cl, %%ax")},
    {"shr32", ZYDIS_MNEMONIC_SHR, 4, -1, DEJA_HOST_OP("shrl %%cl, %%eax")},
    {"shr64", ZYDIS_MNEMONIC_SHR, 8, -1, DEJA_HOST_OP("shrq %%cl, %%rax")},
    {"sar8", ZYDIS_MNEMONIC_SAR, 1, -1, DEJA_HOST_OP("sarb %%cl, %%al")},
    {"sar16", ZYDIS_MNEMONIC_SAR, 2, -1, DEJA_HOST_OP("sarw %%cl, %%ax")},
    {"sar32", ZYDIS_MNEMONIC_SAR, 4, -1, DEJA_HOST_OP("sarl %%cl, %%eax")},
    {"sar64", ZYDIS_MNEMONIC_SAR, 8, -1, DEJA_HOST_OP("sarq %%cl, %%rax")},
    {"rol8", ZYDIS_MNEMONIC_ROL, 1, -1, DEJA_HOST_OP("rolb %%cl, %%al")},
    {"rol16", ZYDIS_MNEMONIC_ROL, 2, -1, DEJA_HOST_OP("rolw %%cl, %%ax")},
    {"rol32", ZYDIS_MNEMONIC_ROL, 4, -1, DEJA_HOST_OP("roll %%cl, %%eax")},
    {"rol64", ZYDIS_MNEMONIC_ROL, 8, -1, DEJA_HOST_OP("rolq %%cl, %%rax")},
    {"ror8", ZYDIS_MNEMONIC_ROR, 1, -1, DEJA_HOST_OP("rorb %%cl, %%al")},
    {"ror16", ZYDIS_MNEMONIC_ROR, 2, -1, DEJA_HOST_OP("rorw %%cl, %%ax")},
    {"ror32", ZYDIS_MNEMONIC_ROR, 4, -1, DEJA_HOST_OP("rorl %%cl, %%eax")},
    {"ror64", ZYDIS_MNEMONIC_ROR, 8, -1, DEJA_HOST_OP("rorq %%cl, %%rax")},
    {"rcl8", ZYDIS_MNEMONIC_RCL, 1, -1, DEJA_HOST_OP("rclb %%cl, %%al")},
    {"rcl16", ZYDIS_MNEMONIC_RCL, 2, -1, DEJA_HOST_OP("rclw %%cl, %%ax")},
    {"rcl32", ZYDIS_MNEMONIC_RCL, 4, -1, DEJA_HOST_OP("rcll %%cl, %%eax")},
    {"rcl64", ZYDIS_MNEMONIC_RCL, 8, -1, DEJA_HOST_OP("rclq %%cl, %%rax")},
    {"rcr8", ZYDIS_MNEMONIC_RCR, 1, -1, DEJA_HOST_OP("rcrb %%cl, %%al")},
    {"rcr16", ZYDIS_MNEMONIC_RCR, 2, -1, DEJA_HOST_OP("rcrw %%cl, %%ax")},
    {"rcr32", ZYDIS_MNEMONIC_RCR, 4, -1, DEJA_HOST_OP("rcrl %%cl, %%eax")},
    {"rcr64", ZYDIS_MNEMONIC_RCR, 8, -1, DEJA_HOST_OP("rcrq %%cl, %%rax")},
    {"shld16", ZYDIS_MNEMONIC_SHLD, 2, -1, DEJA_HOST_OP("shldw %%cl, %%dx, %%ax")},
    {"shld32", ZYDIS_MNEMONIC_SHLD, 4, -1, DEJA_HOST_OP("shldl %%cl, %%edx, %%eax")},
    {"shld64", ZYDIS_MNEMONIC_SHLD, 8, -1, DEJA_HOST_OP("shldq %%cl, %%rdx, %%rax")},
    {"shrd16", ZYDIS_MNEMONIC_SHRD, 2, -1, DEJA_HOST_OP("shrdw %%cl, %%dx, %%ax")},
    {"shrd32", ZYDIS_MNEMONIC_SHRD, 4, -1, DEJA_HOST_OP("shrdl %%cl, %%edx, %%eax")},
    {"shrd64", ZYDIS_MNEMONIC_SHRD, 8, -1, DEJA_HOST_OP("shrdq %%cl, %%rdx, %%rax")},
    {"mul8", ZYDIS_MNEMONIC_MUL, 1, -1, DEJA_HOST_OP("mulb %%cl")},
    {"mul16", ZYDIS_MNEMONIC_MUL, 2, -1, DEJA_HOST_OP("mulw %%cx")},
    {"mul32", ZYDIS_MNEMONIC_MUL, 4, -1, DEJA_HOST_OP("mull %%ecx")},
    {"mul64", ZYDIS_MNEMONIC_MUL, 8, -1, DEJA_HOST_OP("mulq %%rcx")},
    {"imul8", ZYDIS_MNEMONIC_IMUL, 1, -1, DEJA_HOST_OP("imulb %%cl")},
    {"imul16", ZYDIS_MNEMONIC_IMUL, 2, -1, DEJA_HOST_OP("imulw %%cx")},
    {"imul32", ZYDIS_MNEMONIC_IMUL, 4, -1, DEJA_HOST_OP("imull %%ecx")},
    {"imul64", ZYDIS_MNEMONIC_IMUL, 8, -1, DEJA_HOST_OP("imulq %%rcx")},
    {"div8", ZYDIS_MNEMONIC_DIV, 1, -1, DEJA_HOST_OP("divb %%cl")},
    {"div16", ZYDIS_MNEMONIC_DIV, 2, -1, DEJA_HOST_OP("divw %%cx")},
    {"div32", ZYDIS_MNEMONIC_DIV, 4, -1, DEJA_HOST_OP("divl %%ecx")},
    {"div64", ZYDIS_MNEMONIC_DIV, 8, -1, DEJA_HOST_OP("divq %%rcx")},
    {"idiv8", ZYDIS_MNEMONIC_IDIV, 1, -1, DEJA_HOST_OP("idivb %%cl")},
    {"idiv16", ZYDIS_MNEMONIC_IDIV, 2, -1, DEJA_HOST_OP("idivw %%cx")},
    {"idiv32", ZYDIS_MNEMONIC_IDIV, 4, -1, DEJA_HOST_OP("idivl %%ecx")},
    {"idiv64", ZYDIS_MNEMONIC_IDIV, 8, -1, DEJA_HOST_OP("idivq %%rcx")},
    {"bt16", ZYDIS_MNEMONIC_BT, 2, -1, DEJA_HOST_OP("btw %%cx, %%ax")},
    {"bt32", ZYDIS_MNEMONIC_BT, 4, -1, DEJA_HOST_OP("btl %%ecx, %%eax")},
    {"bt64", ZYDIS_MNEMONIC_BT, 8, -1, DEJA_HOST_OP("btq %%rcx, %%rax")},
    {"bts16", ZYDIS_MNEMONIC_BTS, 2, -1, DEJA_HOST_OP("btsw %%cx, %%ax")},
    {"bts32", ZYDIS_MNEMONIC_BTS, 4, -1, DEJA_HOST_OP("btsl %%ecx, %%eax")},
    {"bts64", ZYDIS_MNEMONIC_BTS, 8, -1, DEJA_HOST_OP("btsq %%rcx, %%rax")},
    {"btr16", ZYDIS_MNEMONIC_BTR, 2, -1, DEJA_HOST_OP("btrw %%cx, %%ax")},
    {"btr32", ZYDIS_MNEMONIC_BTR, 4, -1, DEJA_HOST_OP("btrl %%ecx, %%eax")},
    {"btr64", ZYDIS_MNEMONIC_BTR, 8, -1, DEJA_HOST_OP("btrq %%rcx, %%rax")},
    {"btc16", ZYDIS_MNEMONIC_BTC, 2, -1, DEJA_HOST_OP("btcw %%cx, %%ax")},
    {"btc32", ZYDIS_MNEMONIC_BTC, 4, -1, DEJA_HOST_OP("btcl %%ecx, %%eax")},
    {"btc64", ZYDIS_MNEMONIC_BTC, 8, -1, DEJA_HOST_OP("btcq %%rcx, %%rax")},
    {"bsf16", ZYDIS_MNEMONIC_BSF, 2, -1, DEJA_HOST_OP("bsfw %%cx, %%ax")},
    {"bsf32", ZYDIS_MNEMONIC_BSF, 4, -1, DEJA_HOST_OP("bsfl %%ecx, %%eax")},
    {"bsf64", ZYDIS_MNEMONIC_BSF, 8, -1, DEJA_HOST_OP("bsfq %%rcx, %%rax")},
    {"bsr16", ZYDIS_MNEMONIC_BSR, 2, -1, DEJA_HOST_OP("bsrw %%cx, %%ax")},
    {"bsr32", ZYDIS_MNEMONIC_BSR, 4, -1, DEJA_HOST_OP("bsrl %%ecx, %%eax")},
    {"bsr64", ZYDIS_MNEMONIC_BSR, 8, -1, DEJA_HOST_OP("bsrq %%rcx, %%rax")},
    {"tzcnt16", ZYDIS_MNEMONIC_TZCNT, 2, -1, DEJA_HOST_OP("tzcntw %%cx, %%ax")},
    {"tzcnt32", ZYDIS_MNEMONIC_TZCNT, 4, -1, DEJA_HOST_OP("tzcntl %%ecx, %%eax")},
    {"tzcnt64", ZYDIS_MNEMONIC_TZCNT, 8, -1, DEJA_HOST_OP("tzcntq %%rcx, %%rax")},
    {"lzcnt16", ZYDIS_MNEMONIC_LZCNT, 2, -1, DEJA_HOST_OP("lzcntw %%cx, %%ax")},
    {"lzcnt32", ZYDIS_MNEMONIC_LZCNT, 4, -1, DEJA_HOST_OP("lzcntl %%ecx, %%eax")},
    {"lzcnt64", ZYDIS_MNEMONIC_LZCNT, 8, -1, DEJA_HOST_OP("lzcntq %%rcx, %%rax")},
    {"blsi32", ZYDIS_MNEMONIC_BLSI, 4, -1, DEJA_HOST_OP("blsil %%ecx, %%eax")},
    {"blsi64", ZYDIS_MNEMONIC_BLSI, 8, -1, DEJA_HOST_OP("blsiq %%rcx, %%rax")},
    {"blsr32", ZYDIS_MNEMONIC_BLSR, 4, -1, DEJA_HOST_OP("blsrl %%ecx, %%eax")},
    {"blsr64", ZYDIS_MNEMONIC_BLSR, 8, -1, DEJA_HOST_OP("blsrq %%rcx, %%rax")},
    {"blsmsk32", ZYDIS_MNEMONIC_BLSMSK, 4, -1, DEJA_HOST_OP("blsmskl %%ecx, %%eax")},
    {"blsmsk64", ZYDIS_MNEMONIC_BLSMSK, 8, -1, DEJA_HOST_OP("blsmskq %%rcx, %%rax")},
    {"andn32", ZYDIS_MNEMONIC_ANDN, 4, -1, DEJA_HOST_OP("andnl %%ecx, %%eax, %%eax")},
    {"bextr32", ZYDIS_MNEMONIC_BEXTR, 4, -1, DEJA_HOST_OP("bextrl %%ecx, %%eax, %%eax")},
    {"bzhi32", ZYDIS_MNEMONIC_BZHI, 4, -1, DEJA_HOST_OP("bzhil %%ecx, %%eax, %%eax")},
    {"andn64", ZYDIS_MNEMONIC_ANDN, 8, -1, DEJA_HOST_OP("andnq %%rcx, %%rax, %%rax")},
    {"bextr64", ZYDIS_MNEMONIC_BEXTR, 8, -1, DEJA_HOST_OP("bextrq %%rcx, %%rax, %%rax")},
    {"bzhi64", ZYDIS_MNEMONIC_BZHI, 8, -1, DEJA_HOST_OP("bzhiq %%rcx, %%rax, %%rax")},
    {"rol8_by_11", ZYDIS_MNEMONIC_ROL, 1, 11, DEJA_HOST_OP("rolb $11, %%al")},
    {"rol16_by_5", ZYDIS_MNEMONIC_ROL, 2, 5, DEJA_HOST_OP("rolw $5, %%ax")},
    {"rol32_by_24", ZYDIS_MNEMONIC_ROL, 4, 24, DEJA_HOST_OP("roll $24, %%eax")},
    {"rol64_by_37", ZYDIS_MNEMONIC_ROL, 8, 37, DEJA_HOST_OP("rolq $37, %%rax")},
    {"ror8_by_11", ZYDIS_MNEMONIC_ROR, 1, 11, DEJA_HOST_OP("rorb $11, %%al")},
    {"ror16_by_5", ZYDIS_MNEMONIC_ROR, 2, 5, DEJA_HOST_OP("rorw $5, %%ax")},
    {"ror32_by_24", ZYDIS_MNEMONIC_ROR, 4, 24, DEJA_HOST_OP("rorl $24, %%eax")},
    {"ror64_by_37", ZYDIS_MNEMONIC_ROR, 8, 37, DEJA_HOST_OP("rorq $37, %%rax")},
};
#undef DEJA_HOST_OP

}  // namespace

std::span<const HostFlagOp> host_flag_ops() { return kOps; }

namespace {

struct Difference {
  u64 flags = 0;
  bool result = false;
};

Difference difference(const HostFlagOp& op, u64 a, u64 b, u64 c, u64 status) {
  const unsigned bits = op.size * 8;
  const u64 mask = bits == 64 ? ~u64{0} : (u64{1} << bits) - 1;
  const FlagGroup group = flag_group(op.mnemonic);
  const bool divides = group == FlagGroup::divide;
  const bool byte_accumulator = op.size == 1 && (divides || group == FlagGroup::multiply);
  if (divides) {
    // Quotients that fit: a non-negative dividend of one size by a positive divisor.
    a &= mask >> 1;
    b = (b & mask >> 1) | 1;
    c = 0;
  }
  if (op.immediate >= 0) b = static_cast<u64>(op.immediate);
  FlagOpResult host = op.run(byte_accumulator ? a & mask : a, b, c, status);
  if (byte_accumulator) host.high = host.value >> 8;
  const FlagOpResult canonical = compute_flag_op(op.mnemonic, op.size, a, b, c, status, op.immediate >= 0);
  const bool two_results = divides || group == FlagGroup::multiply;
  return {host.status ^ canonical.status,
          (canonical.writes ? ((host.value ^ canonical.value) & mask) != 0 : host.value != a) ||
              (two_results && ((host.high ^ canonical.high) & mask) != 0)};
}

}  // namespace

bool host_agrees(const HostFlagOp& op, u64 a, u64 b, u64 c, u64 status) {
  const Difference d = difference(op, a, b, c, status);
  return d.flags == 0 && !d.result;
}

HostFlagDifferences host_flag_differences() {
  HostFlagDifferences found;
  u64 random = 0x9e3779b97f4a7c15;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  constexpr u64 kEdges[] = {0, 1, 0x80, 0x8000, 0x80000000, u64{1} << 63, ~u64{0}};
  for (const HostFlagOp& op : kOps) {
    for (unsigned i = 0; i < 32; ++i) {
      const u64 a = next(), b = i < std::size(kEdges) ? kEdges[i] : next() >> (next() & 63), c = next();
      const Difference d = difference(op, a, b, c, next() & flag::kStatus);
      const FlagGroup group = flag_group(op.mnemonic);
      const u32 bit = 1u << static_cast<unsigned>(group);
      const bool result_may_differ = group == FlagGroup::double_shift && op.size == 2;
      if (d.flags || d.result) found.groups |= bit;
      if ((d.flags & ~fixed_flags(group)) || d.result) {
        // Those are done in C++ anyway.
        if (!result_may_differ) found.not_fixed |= bit;
      }
    }
  }
  if (found.groups & kGroupsForFixes) found.not_fixed = found.groups;
  return found;
}

}  // namespace deja
