// Every exception of 64-bit mode: vector, error code, the RIP pushed, RF in the pushed image (SDM vol.
// 3A 6.15).
#include "runtime.h"

CODE(div_zero, "xor %ecx, %ecx; mov $5, %eax; xor %edx, %edx; .globl div_at; div_at: div %ecx");
CODE(div_overflow, "mov $1, %ecx; mov $1, %edx; .globl div2_at; div2_at: idivl %ecx");
CODE(breakpoint, "nop; int3");
CODE(int1, ".byte 0xf1; nop");
CODE(software_int, "int $0x80");
CODE(software_int_dpl0, "int $0x41");
CODE(ud2_code, "ud2");
CODE(lock_nop, ".byte 0xf0, 0x90");
CODE(lock_reg, ".byte 0xf0, 0x01, 0xc0");
CODE(into64, ".byte 0xce");
CODE(push_es64, ".byte 0x06");
CODE(mov_cs, ".byte 0x8e, 0xc8");
CODE(mov_cr1, ".byte 0x0f, 0x20, 0xc8");
CODE(sysenter_zero, "sysenter");
CODE(too_long, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
CODE(longest, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
CODE(load_es, "mov %edi, %es");
CODE(load_ss, "mov %edi, %ss");
CODE(load_fs, "mov %edi, %fs");
CODE(far_call, "lcall *(%rdi)");
CODE(far_return, "push %rdi; push %rsi; lretq");
CODE(iret_code, "iretq");
CODE(load_tr, "ltr %di");
CODE(load_ldt, "lldt %di");
CODE(aligned_sse, "movaps (%rdi), %xmm0");
CODE(unaligned_load, "mov (%rdi), %eax");
CODE(fpu_op, "fld1");
CODE(fpu_wait, "fwait");
CODE(sse_op, "addps %xmm0, %xmm0");
CODE(x87_div0, "fldcw (%rdi); fldz; fld1; fdivp; .globl x87_next; x87_next: fwait");
CODE(sse_div0,
     "ldmxcsr (%rdi); cvtsi2sd %eax, %xmm0; xorps %xmm1, %xmm1; .globl sse_at; sse_at: divsd %xmm1, %xmm0");
CODE(bad_mxcsr, "ldmxcsr (%rdi)");
CODE(write_cr0_code, "mov %rdi, %cr0");
CODE(write_cr4_code, "mov %rdi, %cr4");
CODE(write_cr3_code, "mov %rdi, %cr3");
CODE(write_cr8_code, "mov %rdi, %cr8");
CODE(write_dr7_code, "mov %rdi, %dr7");
CODE(write_dr6_code, "mov %rdi, %dr6");
CODE(wrmsr_code, "wrmsr");
CODE(rdmsr_code, "rdmsr");
CODE(xsetbv_code, "xsetbv");
CODE(cli_code, "cli");
CODE(hlt_code, "hlt");
CODE(in_code, "in $0x80, %al");
CODE(popf_code, "push %rdi; popfq");
CODE(lgdt_code, "lgdt (%rdi)");
CODE(cmpxchg16b_code, "cmpxchg16b (%rdi)");
extern char div_at[], div2_at[], x87_next[], sse_at[];

static struct Context c;
static int kernel(void* code, u64 di) {
  c = kernel_context(code);
  c.di = di;
  return run(&c);
}
static int user(void* code, u64 di) {
  c = user_context(code);
  c.di = di;
  return run(&c);
}

static void divide(void) {
  SUBJECT("#DE");
  EXPECT_EQ(kernel(div_zero, 0), DE);
  EXPECT_EQ(c.ip, (word)div_at);
  EXPECT_EQ(c.ax, 5);
  EXPECT_HW_EQ(c.flags & FL_RF, FL_RF);  // faults push RF = 1 (SDM vol. 3B 17.3.1.1)
  EXPECT_EQ(user(div_overflow, 0), DE);
  EXPECT_EQ(c.ip, (word)div2_at + USER_ALIAS);
  EXPECT_EQ(c.cs, UCODE);
  EXPECT_EQ(c.ss, UDATA);
}

static void software(void) {
  SUBJECT("INT n, INT3, INT1");
  EXPECT_EQ(kernel(breakpoint, 0), BP);
  EXPECT_EQ(c.ip, (word)breakpoint + 2);
  EXPECT_EQ(c.flags & FL_RF, 0);  // a trap
  EXPECT_EQ(user(software_int, 0), 0x80);
  EXPECT_EQ(c.ip, (word)software_int + 2 + USER_ALIAS);
  EXPECT_EQ(kernel(software_int_dpl0, 0), 0x41);
  EXPECT_EQ(user(software_int_dpl0, 0), GP);
  EXPECT_HW_EQ(c.error, 0x41 * 8 + 2);
  EXPECT_EQ(c.ip, (word)software_int_dpl0 + USER_ALIAS);
  EXPECT_HW_EQ(user(int1, 0), DB);  // ignores the gate's DPL
  EXPECT_HW_EQ(c.ip, (word)int1 + 1 + USER_ALIAS);
}

static void undefined(void) {
  SUBJECT("#UD and #GP of odd encodings");
  static char* const ud[] = {ud2_code, lock_nop, lock_reg, into64, push_es64, mov_cs, mov_cr1};
  for (unsigned i = 0; i < sizeof ud / sizeof *ud; i++) {
    EXPECT_EQ(kernel(ud[i], 0), UD);
    EXPECT_EQ(c.ip, (word)ud[i]);
    EXPECT_HW_EQ(c.flags & FL_RF, FL_RF);
  }
  EXPECT_EQ(kernel(too_long, 0), GP);
  EXPECT_EQ(c.error, 0);
  EXPECT_EQ(c.ip, (word)too_long);
  EXPECT_EQ(kernel(longest, 0), BP);
  wrmsr(0x174, 0);
  EXPECT_EQ(user(sysenter_zero, 0), GP);
  EXPECT_EQ(c.error, 0);
}

static void not_available(void) {
  SUBJECT("#NM");
  word cr0 = read_cr0();
  write_cr0(cr0 | 8);  // TS
  EXPECT_EQ(kernel(fpu_op, 0), NM);
  EXPECT_EQ(c.ip, (word)fpu_op);
  EXPECT_EQ(kernel(fpu_wait, 0), NM);
  EXPECT_EQ(user(sse_op, 0), NM);
  write_cr0((cr0 | 8) & ~2ul);  // TS without MP: FWAIT passes
  EXPECT_EQ(kernel(fpu_wait, 0), BP);
  asm volatile("clts");
  EXPECT_EQ(kernel(sse_op, 0), BP);
  write_cr0(cr0 | 4);  // EM
  EXPECT_EQ(kernel(fpu_op, 0), NM);
  EXPECT_EQ(kernel(sse_op, 0), UD);
  write_cr0(cr0);
  write_cr4(read_cr4() & ~0x200ul);  // no OSFXSR
  EXPECT_EQ(kernel(sse_op, 0), UD);
  write_cr4(read_cr4() | 0x200);
  EXPECT_EQ(kernel(sse_op, 0), BP);
}

static void segments(void) {
  SUBJECT("#NP, #SS, #GP of segment loads");
  u64* free = &gdt[FREE_SELECTOR / 8];
  free[0] = gdt[KDATA / 8] & ~(1ull << 47);  // not present
  EXPECT_EQ(kernel(load_es, FREE_SELECTOR), NP);
  EXPECT_EQ(c.error, FREE_SELECTOR);
  EXPECT_EQ(kernel(load_ss, FREE_SELECTOR), SS);
  EXPECT_EQ(c.error, FREE_SELECTOR);
  EXPECT_EQ(user(load_es, KDATA), GP);  // DPL 0 from ring 3
  EXPECT_EQ(c.error, KDATA);
  EXPECT_EQ(kernel(load_es, 0xfff8), GP);  // beyond the GDT
  EXPECT_EQ(c.error, 0xfff8);
  EXPECT_EQ(kernel(load_es, 0x0c), GP);  // no LDT
  EXPECT_EQ(c.error, 0x0c);
  EXPECT_EQ(kernel(load_es, TSS_SELECTOR), GP);
  EXPECT_EQ(kernel(load_ss, KCODE), GP);
  EXPECT_EQ(kernel(load_ss, UDATA), GP);
  EXPECT_EQ(kernel(load_ss, 0), BP);  // null is fine in ring 0 of 64-bit mode
  EXPECT_EQ(user(load_ss, 0), GP);
  EXPECT_EQ(c.error, 0);
  EXPECT_EQ(user(load_fs, 0), BP);
  EXPECT_EQ(user(load_fs, 3), BP);
  // The accessed bit is set by loading.
  free[0] = gdt[KDATA / 8] & ~(1ull << 40);
  EXPECT_EQ(kernel(load_fs, FREE_SELECTOR), BP);
  EXPECT_EQ(free[0] >> 40 & 1, 1);
  // Code segments with both L and D, not present, not conforming.
  free[0] = gdt[KCODE / 8] | 1ull << 54;
  c = kernel_context(far_return);
  c.di = FREE_SELECTOR;
  c.si = (word)breakpoint;
  EXPECT_HW_EQ(run(&c), GP);
  EXPECT_HW_EQ(c.error, FREE_SELECTOR);
  free[0] = gdt[KCODE / 8] & ~(1ull << 47);
  c = kernel_context(far_return);
  c.di = FREE_SELECTOR;
  EXPECT_EQ(run(&c), NP);
  c = user_context(far_return);
  c.di = KCODE | 3;
  EXPECT_EQ(run(&c), GP);
  EXPECT_EQ(c.error, KCODE);
  EXPECT_EQ(kernel(load_tr, TSS_SELECTOR), GP);  // busy
  EXPECT_EQ(c.error, TSS_SELECTOR);
  if (!on_qemu) {  // QEMU loads it
    EXPECT_EQ(kernel(load_tr, 0), GP);
    EXPECT_EQ(c.error, 0);
  }
  EXPECT_EQ(kernel(load_ldt, KDATA), GP);
  EXPECT_EQ(kernel(load_ldt, 0), BP);
}

static void alignment(void) {
  SUBJECT("#GP of unaligned SSE, #AC");
  static u8 data[64] __attribute__((aligned(64)));
  EXPECT_EQ(kernel(aligned_sse, (u64)data), BP);
  EXPECT_EQ(kernel(aligned_sse, (u64)data + 8), GP);
  EXPECT_EQ(c.error, 0);
  EXPECT_EQ(kernel(cmpxchg16b_code, (u64)data + 8), GP);
  // Alignment is checked before the page walk.
  EXPECT_EQ(kernel(aligned_sse, 0xffff900000000008), GP);
  EXPECT_EQ(kernel(aligned_sse, 0xffff900000000000), PF);
  write_cr0(read_cr0() | 1 << 18);  // AM
  c = user_context(unaligned_load);
  c.di = (u64)data + USER_ALIAS + 1;
  c.flags |= FL_AC;
  EXPECT_HW_EQ(run(&c), AC);
  EXPECT_EQ(c.error, 0);
  EXPECT_HW_EQ(c.ip, (word)unaligned_load + USER_ALIAS);
  c = user_context(unaligned_load);
  c.di = (u64)data + USER_ALIAS + 1;
  EXPECT_EQ(run(&c), BP);  // needs EFLAGS.AC
  c = kernel_context(unaligned_load);
  c.di = (u64)data + 1;
  c.flags |= FL_AC;
  EXPECT_EQ(run(&c), BP);  // ring 3 only
  c = user_context(unaligned_load);
  c.di = (u64)data + USER_ALIAS + 4;
  c.flags |= FL_AC;
  EXPECT_EQ(run(&c), BP);
  write_cr0(read_cr0() & ~(1ul << 18));
}

static void floating(void) {
  SUBJECT("#MF, #XM");
  static u16 unmask_zd = 0x37b, plain = 0x37f;
  asm volatile("fninit");  // RESET leaves the registers in use and all exceptions unmasked
  EXPECT_EQ(kernel(x87_div0, (u64)&unmask_zd), MF);
  EXPECT_EQ(c.ip, (word)x87_next);  // at the next waiting instruction
  asm volatile("fnclex; fninit");
  EXPECT_EQ(kernel(x87_div0, (u64)&plain), BP);
  asm volatile("fninit");
  static u32 mx_unmasked = 0x1d80, mx_plain = 0x1f80, mx_bad = 0x10000;
  c = kernel_context(sse_div0);
  c.di = (u64)&mx_unmasked;
  c.ax = 3;
  EXPECT_HW_EQ(run(&c), XM);
  EXPECT_HW_EQ(c.ip, (word)sse_at);
  u32 now;
  asm volatile("stmxcsr %0" : "=m"(now));
  EXPECT_EQ(now, 0x1d84);  // ZE
  asm volatile("ldmxcsr %0" ::"m"(mx_plain));
  EXPECT_HW_EQ(kernel(bad_mxcsr, (u64)&mx_bad), GP);
  write_cr4(read_cr4() & ~0x400ul);  // without OSXMMEXCPT it is #UD
  c = kernel_context(sse_div0);
  c.di = (u64)&mx_unmasked;
  c.ax = 3;
  EXPECT_HW_EQ(run(&c), UD);
  write_cr4(read_cr4() | 0x400);
  asm volatile("ldmxcsr %0" ::"m"(mx_plain));
}

static void control_registers(void) {
  SUBJECT("#GP of control registers and MSRs");
  word cr0 = read_cr0(), cr4 = read_cr4();
  if (!on_qemu) {                                                             // which takes all of these
    EXPECT_EQ(kernel(write_cr0_code, cr0 & ~1ul), GP);                        // PG without PE
    EXPECT_EQ(kernel(write_cr0_code, (cr0 | 1ul << 29) & ~(1ul << 30)), GP);  // NW without CD
    EXPECT_EQ(kernel(write_cr0_code, cr0 | 1ul << 32), GP);
    EXPECT_EQ(kernel(write_cr4_code, cr4 & ~0x20ul), GP);  // PAE off in long mode
    EXPECT_EQ(kernel(write_cr4_code, cr4 | 1ul << 31), GP);
    EXPECT_EQ(kernel(write_cr3_code, 1ul << 52), GP);
    EXPECT_EQ(kernel(write_cr8_code, 16), GP);
    EXPECT_EQ(kernel(write_dr7_code, 1ul << 32), GP);
    EXPECT_EQ(kernel(write_dr6_code, 1ul << 32), GP);
  }
  EXPECT_EQ(read_cr0(), cr0);
  EXPECT_EQ(read_cr4(), cr4);
  if (!on_qemu) {  // nor does it check MSRs
    c = kernel_context(wrmsr_code);
    c.cx = 0xc0000080;
    c.ax = 0x801;  // LME off while paging
    EXPECT_EQ(run(&c), GP);
    c = kernel_context(wrmsr_code);
    c.cx = 0xc0000082;  // LSTAR must be canonical
    c.dx = 0x12345678;
    EXPECT_EQ(run(&c), GP);
    c = kernel_context(rdmsr_code);
    c.cx = 0x7fffffff;
    c.ax = 77;
    EXPECT_EQ(run(&c), GP);
    EXPECT_EQ(c.ax, 77);
  }
  c = kernel_context(wrmsr_code);
  c.cx = 0xc0000102;
  c.dx = 0xffff8000;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(kernel(lgdt_code, 0x0000900000000000), GP);
  if (cpuid_bit(1, 0, 2, 26)) {
    write_cr4(cr4 | 1 << 18);
    static const u32 bad[] = {0, 2, 5, 1u << 31 | 1};
    for (int i = 0; i < 4; i++) {
      c = kernel_context(xsetbv_code);
      c.ax = bad[i];
      EXPECT_EQ(run(&c), GP);
    }
    c = kernel_context(xsetbv_code);
    c.ax = 3;
    EXPECT_EQ(run(&c), BP);
    write_cr4(cr4);
    EXPECT_EQ(kernel(xsetbv_code, 0), UD);
  }
  static char* const privileged[] = {write_cr0_code, write_cr3_code, wrmsr_code, rdmsr_code, cli_code,
                                     hlt_code,       in_code,        load_tr,    load_ldt,   lgdt_code};
  for (unsigned i = 0; i < sizeof privileged / sizeof *privileged; i++) {
    EXPECT_EQ(user(privileged[i], 0), GP);
    EXPECT_EQ(c.error, 0);
    EXPECT_EQ(c.ip, (word)privileged[i] + USER_ALIAS);
  }
}

static void double_fault(void) {
  SUBJECT("#DF on an IST");
  use_ist(DF, 2);
  set_gate(PF, (void*)0, 0, 14, 0, 0);  // null selector: delivering #PF raises #GP
  c = kernel_context(unaligned_load);
  c.di = 0xffff900000000000;
  word sp = c.sp;
  EXPECT_EQ(run(&c), DF);
  EXPECT_EQ(c.error, 0);
  EXPECT_EQ(c.sp, sp);
  EXPECT_EQ(c.cr2, 0xffff900000000000);
  extern char trap_stubs[];
  set_gate(PF, trap_stubs + 16 * PF, KCODE, 14, 0, 0);
  // A stack that is not there: #PF pushing the frame of #PF.
  c = kernel_context(unaligned_load);
  c.di = 0xffff900000000000;
  c.sp = 0xffffa00000000000;
  EXPECT_EQ(run(&c), DF);
  EXPECT_EQ(c.sp, 0xffffa00000000000);
  EXPECT_EQ(c.cr2, 0xffffa00000000000 - 8);
  // A benign exception followed by a fault is delivered serially: #NP of the gate, not #DF.
  set_gate(UD, trap_stubs + 16 * UD, KCODE, 14, 0, 0);
  struct {
    u16 o0, s;
    u8 ist, type;
    u16 o1;
    u32 o2, r;
  } * idt;
  struct TablePointer p;
  asm volatile("sidt %0" : "=m"(p));
  idt = (void*)p.base;
  idt[UD].type &= 0x7f;
  EXPECT_EQ(kernel(ud2_code, 0), NP);
  EXPECT_HW_EQ(c.error, UD * 8 + 2 + 1);  // EXT: not by INT n
  EXPECT_EQ(c.ip, (word)ud2_code);
  idt[UD].type |= 0x80;
  // INT n through a gate that is not present: EXT clear.
  idt[0x41].type &= 0x7f;
  EXPECT_EQ(kernel(software_int_dpl0, 0), NP);
  EXPECT_HW_EQ(c.error, 0x41 * 8 + 2);
  idt[0x41].type |= 0x80;
}

CODE(bad_rip_ret, "push %rdi; ret");

static void returns(void) {
  SUBJECT("IRET and RET faults");
  // run() itself returns with IRETQ; a frame with a bad CS makes that IRETQ fault, in this kernel's context.
  u64 frame[5] = {(u64)breakpoint, 0xfff8, 2, 0, KDATA};
  c = kernel_context(iret_code);
  c.sp = (word)frame;
  frame[3] = c.sp;
  use_ist(GP, 1);
  EXPECT_EQ(run(&c), GP);
  EXPECT_EQ(c.error, 0xfff8);
  EXPECT_EQ(c.ip, (word)iret_code);
  EXPECT_EQ(c.sp, (word)frame);
  frame[1] = KCODE;
  frame[0] = 0x8000000000000000;
  EXPECT_EQ((c = kernel_context(iret_code), c.sp = (word)frame, run(&c)), GP);
  EXPECT_EQ(c.error, 0);
  use_ist(GP, 0);
  // RET to a non-canonical address: SDM leaves RIP at the RET.
  c = kernel_context(bad_rip_ret);
  c.di = 0x8000000000000000;
  EXPECT_EQ(run(&c), GP);
}

int main(void) {
  divide();
  software();
  undefined();
  not_available();
  segments();
  alignment();
  floating();
  control_registers();
  double_fault();
  returns();
  return 0;
}
