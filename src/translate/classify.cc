#include "translate/classify.h"

#include "guest/fault.h"

namespace deja {
namespace {

// CMOVcc and SETcc.
bool is_conditional_move_or_set(const Insn& i) {
  return i.category == ZYDIS_CATEGORY_CMOV || i.category == ZYDIS_CATEGORY_SETCC;
}

// Instructions on general registers and one memory operand that are the same on the host.
bool carried_whole(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SHRD:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XOR:
      return true;
    default:
      return false;
  }
}

Way classify_base(const Insn& i) {
  if (carried_whole(i.mnemonic) || is_conditional_move_or_set(i)) return Way::carry;
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
      for (unsigned k = 0; k < i.operand_count; ++k)
        if (i.op[k].kind == OperandKind::seg || i.op[k].kind == OperandKind::cr ||
            i.op[k].kind == OperandKind::dr)
          return Way::helper;
      if (i.has_mem && !i.has_modrm) return Way::moffs;
      return Way::carry;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
      // A register bit index moves the memory operand.
      if (i.has_mem && i.op[1].kind == OperandKind::gpr) return Way::helper_inline;
      return Way::carry;
    // What it does to a 16-bit register is undefined.
    case ZYDIS_MNEMONIC_BSWAP:
      return i.operand_size == 2 ? Way::helper_inline : Way::carry;
    case ZYDIS_MNEMONIC_NOP:
      return Way::nothing;
    case ZYDIS_MNEMONIC_LEA:
      return Way::lea;
    case ZYDIS_MNEMONIC_PUSH:
      return i.op[0].kind == OperandKind::seg ? Way::helper : Way::push;
    case ZYDIS_MNEMONIC_POP:
      return i.op[0].kind == OperandKind::seg ? Way::helper : Way::pop;
    case ZYDIS_MNEMONIC_LEAVE:
      return Way::leave;
    case ZYDIS_MNEMONIC_JMP:
      return i.op[0].kind == OperandKind::far_ptr || (i.has_mem && i.modrm_reg() == 5) ? Way::helper
                                                                                       : Way::jump;
    case ZYDIS_MNEMONIC_CALL:
      return i.op[0].kind == OperandKind::far_ptr || (i.has_mem && i.modrm_reg() == 3) ? Way::helper
                                                                                       : Way::call;
    case ZYDIS_MNEMONIC_RET:
      return i.opcode == 0xc3 || i.opcode == 0xc2 ? Way::ret : Way::helper;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
      return Way::loop;
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_XLAT:
      return Way::helper_inline;
    default:
      return i.category == ZYDIS_CATEGORY_COND_BR ? Way::jcc : Way::helper;
  }
}

bool is_fence_or_hint(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
      return true;
    default:
      return false;
  }
}

// SSE and AVX instructions whose results differ between CPU makers, that touch memory in a way of their own,
// or that read or write the x87/SSE environment as a whole.
bool fpu_in_cpp(ZydisMnemonic m) {
  switch (m) {
    case ZYDIS_MNEMONIC_F2XM1:
    case ZYDIS_MNEMONIC_FCOS:
    case ZYDIS_MNEMONIC_FPATAN:
    case ZYDIS_MNEMONIC_FPTAN:
    case ZYDIS_MNEMONIC_FSIN:
    case ZYDIS_MNEMONIC_FSINCOS:
    case ZYDIS_MNEMONIC_FYL2X:
    case ZYDIS_MNEMONIC_FYL2XP1:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_VRCPPS:
    case ZYDIS_MNEMONIC_VRCPSS:
    case ZYDIS_MNEMONIC_VRSQRTPS:
    case ZYDIS_MNEMONIC_VRSQRTSS:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return true;
    default:
      return false;
  }
}

bool touches_vector_state(const Insn& i) {
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].kind == OperandKind::xmm || i.op[k].kind == OperandKind::ymm ||
        i.op[k].kind == OperandKind::mmx)
      return true;
  return i.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || i.mnemonic == ZYDIS_MNEMONIC_STMXCSR;
}

}  // namespace

Way classify(const Insn& i) {
  if (is_fence_or_hint(i.mnemonic)) return Way::nothing;
  if (fpu_in_cpp(i.mnemonic)) return Way::helper_inline;
  switch (i.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
      return classify_base(i);
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_ADOX_ADCX:
    case ZYDIS_ISA_EXT_SHA:
      return Way::carry;
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
      return i.mem.vector_index ? Way::helper_inline : Way::carry;
    case ZYDIS_ISA_EXT_AVX2GATHER:
      return Way::helper_inline;
    case ZYDIS_ISA_EXT_XSAVE:
    case ZYDIS_ISA_EXT_XSAVEOPT:
      return Way::helper;
    case ZYDIS_ISA_EXT_PAUSE:
      return Way::helper;
    default:
      return Way::helper;
  }
}

u8 fpu_gate(const Insn& i, BlockMode mode) {
  switch (i.isa_ext) {
    case ZYDIS_ISA_EXT_X87:
      if (i.mnemonic == ZYDIS_MNEMONIC_FWAIT) return mode.has(BlockMode::kWaitNm) ? kNM : kNoVector;
      return mode.has(BlockMode::kNoX87) ? kNM : kNoVector;
    case ZYDIS_ISA_EXT_MMX:
      if (mode.has(BlockMode::kEm)) return kUD;
      return mode.has(BlockMode::kTs) ? kNM : kNoVector;
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
      if (!touches_vector_state(i)) {
        if (i.mnemonic == ZYDIS_MNEMONIC_FISTTP) return mode.has(BlockMode::kNoX87) ? kNM : kNoVector;
        return kNoVector;
      }
      if (mode.has(BlockMode::kEm)) return kUD;
      if (!mode.has(BlockMode::kSse)) {
        // MMX forms of later extensions need no OSFXSR.
        bool xmm = i.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || i.mnemonic == ZYDIS_MNEMONIC_STMXCSR;
        for (unsigned k = 0; k < i.operand_count; ++k) xmm |= i.op[k].kind == OperandKind::xmm;
        if (xmm) return kUD;
      }
      return mode.has(BlockMode::kTs) ? kNM : kNoVector;
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
      if (!mode.has(BlockMode::kAvx)) return kUD;
      return mode.has(BlockMode::kTs) ? kNM : kNoVector;
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
      return i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && !mode.has(BlockMode::kProtected) ? kUD
                                                                                              : kNoVector;
    default:
      return kNoVector;
  }
}

bool waits_for_fpu(const Insn& i) {
  if (i.isa_ext != ZYDIS_ISA_EXT_X87 && i.mnemonic != ZYDIS_MNEMONIC_FISTTP) return false;
  return i.mnemonic != ZYDIS_MNEMONIC_FNSTCW && i.mnemonic != ZYDIS_MNEMONIC_FNSTSW;
}

bool uses_mmx(const Insn& i) {
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].kind == OperandKind::mmx) return true;
  return false;
}

bool uses_vectors(const Insn& i) {
  switch (i.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_ADOX_ADCX:
      return false;
    default:
      return true;
  }
}

u8 required_alignment(const Insn& i) {
  if (!i.has_mem) return 0;
  unsigned size = 0;
  for (unsigned k = 0; k < i.operand_count; ++k)
    if (i.op[k].kind == OperandKind::mem) size = i.op[k].size;
  if (size < 16) return 0;
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
      return static_cast<u8>(size);
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
      return 0;
    default:
      break;
  }
  switch (i.isa_ext) {
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
      return 16;
    default:
      return 0;
  }
}

}  // namespace deja
