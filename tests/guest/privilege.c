// Ring transitions: IRET, INT with TSS and IST, SYSCALL/SYSRET, SYSENTER/SYSEXIT, call gates, IOPL and the
// I/O bitmap, rights of ring 3 (SDM vol. 3A chapter 5, vol. 1 18.5).
#include "runtime.h"

static struct Context c;
extern char syscall_entry[], sysenter_entry[], sysexit_entry[];

CODE(user_syscall, "mov $0x1234, %eax; syscall; .globl syscall_back; syscall_back: int3");
CODE(kernel_sysret, "int3");  // SYSCALL lands here and stops
CODE(do_sysret, "sysretq");
CODE(do_sysret32, "sysretl");
CODE(user_loop, ".globl loop_top; loop_top: syscall; dec %edi; jnz loop_top; int3");
CODE(loop_kernel, "inc %rbx; sysretq");
CODE(user_sysenter, "sysenter");
CODE(sysenter_kernel, "int3");
CODE(do_sysexit, "sysexitq");
CODE(do_sysexit32, "sysexitl");
CODE(user_int3, "nop; int3");
CODE(user_in, "in %dx, %al");
CODE(user_inl, "in %dx, %eax");
CODE(user_cli, "cli; nop; sti; nop");
CODE(user_popf, "push %rdi; popfq; pushfq; pop %rax");
CODE(user_gate, "lcall *(%rdi)");
CODE(gate_target, "mov %ss, %ecx; pushfq; lretq $0");
CODE(gate_target_stop, "int3");
CODE(user_rdpmc, "rdpmc");
CODE(user_rdtsc, "rdtsc");
CODE(user_wrfs, "wrfsbase %rdi; mov %fs:0, %rax; rdfsbase %rbx");
CODE(user_swapgs, "swapgs");
CODE(kernel_swapgs, "wrgsbase %rdi; swapgs; rdgsbase %rax; swapgs; rdgsbase %rbx");
CODE(user_sgdt, "sub $16, %rsp; sgdt (%rsp)");
CODE(user_smsw, "smsw %eax");
CODE(user_str, "str %eax");
CODE(user_lar, "lar %edi, %eax");
CODE(user_lsl, "lsl %edi, %eax");
CODE(user_verr, "xor %eax, %eax; verr %di; setz %al; verw %di; setz %ah");
CODE(user_arpl_is_movsxd, "mov $-5, %ecx; movslq %ecx, %rax");
extern char syscall_back[], loop_top[];

static int user(void* code, u64 di) {
  c = user_context(code);
  c.di = di;
  return run(&c);
}

static void syscalls(void) {
  SUBJECT("SYSCALL, SYSRET");
  wrmsr(0xc0000081, (u64)0x18 << 48 | (u64)KCODE << 32);
  wrmsr(0xc0000082, (u64)kernel_sysret);
  wrmsr(0xc0000084, FL_IF | FL_DF | FL_CF);
  c = user_context(user_syscall);
  word sp = c.sp;
  c.flags |= FL_DF | FL_CF | FL_ZF;
  use_ist(BP, 1);  // SYSCALL leaves the user's RSP
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ip, (word)kernel_sysret + 1);
  EXPECT_EQ(c.cs, KCODE);
  EXPECT_EQ(c.ss, KDATA);
  EXPECT_EQ(c.sp, sp);
  EXPECT_EQ(c.cx, (word)syscall_back + USER_ALIAS);
  EXPECT_EQ(c.r11, 2 | FL_DF | FL_CF | FL_ZF);
  EXPECT_HW_EQ(c.flags & ~(u64)FL_RF, 2 | FL_ZF);
  EXPECT_EQ(c.ax, 0x1234);

  c = kernel_context(do_sysret);
  c.cx = (word)user_int3 + USER_ALIAS;
  c.r11 = 2 | FL_ZF | FL_RF;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ip, (word)user_int3 + 2 + USER_ALIAS);
  EXPECT_EQ(c.cs, UCODE);
  EXPECT_EQ(c.ss, UDATA);
  EXPECT_HW_EQ(c.flags, 2 | FL_ZF);  // RF is not restored
  c = kernel_context(do_sysret32);
  c.cx = (word)user_int3 + USER_ALIAS;
  c.r11 = 2;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.cs, UCODE32);
  c = kernel_context(do_sysret);  // Intel: #GP in ring 0 for a non-canonical RIP
  c.cx = 0x0000800000000000;
  EXPECT_HW_EQ(run(&c), GP);
  EXPECT_HW_EQ(c.cs, KCODE);
  c = user_context(do_sysret);
  EXPECT_EQ(run(&c), GP);

  wrmsr(0xc0000082, (u64)loop_kernel);
  c = user_context(user_loop);
  c.di = 1000;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx, 1000);
  use_ist(BP, 0);
  wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ull);  // without EFER.SCE
  EXPECT_EQ(user(user_syscall, 0), UD);
  c = kernel_context(do_sysret);
  EXPECT_EQ(run(&c), UD);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
}

static u8 sysenter_stack[4096];

static void sysenter(void) {
  SUBJECT("SYSENTER, SYSEXIT");
  wrmsr(0x174, KCODE);
  wrmsr(0x175, (u64)sysenter_stack + sizeof sysenter_stack);
  wrmsr(0x176, (u64)sysenter_kernel);
  c = user_context(user_sysenter);
  c.flags |= FL_IF;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ip, (word)sysenter_kernel + 1);
  EXPECT_EQ(c.cs, KCODE);
  EXPECT_EQ(c.ss, KDATA);
  EXPECT_EQ(c.sp, (word)sysenter_stack + sizeof sysenter_stack);
  EXPECT_EQ(c.flags & FL_IF, 0);
  c = kernel_context(do_sysexit);
  c.dx = (word)user_int3 + USER_ALIAS;
  c.cx = 0x123450 + USER_ALIAS;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.cs, UCODE);
  EXPECT_EQ(c.ss, 0x33);
  EXPECT_EQ(c.sp, 0x123450 + USER_ALIAS);
  c = kernel_context(do_sysexit32);
  c.dx = (word)user_int3 + USER_ALIAS;
  c.cx = 0x123450 + USER_ALIAS;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.cs, UCODE32);
  EXPECT_EQ(c.ss, UDATA);
  EXPECT_EQ(user(do_sysexit, 0), GP);
}

static word hook_sp, hook_frame;
static void stack_hook(struct Context* f) {
  hook_frame = (word)f;
  hook_sp = (word)f + __builtin_offsetof(struct Context, cr2);  // the RSP the frame was pushed at
}
CODE(user_int_48, "int $0x48; nop");
CODE(kernel_int_48, "push %rax; int $0x48; pop %rax");

static void stacks(void) {
  SUBJECT("TSS stacks and IST");
  hooks[0x48] = stack_hook;
  set_gate_dpl(0x48, 3);
  EXPECT_EQ(user(user_int_48, 0), BP);
  EXPECT_EQ(hook_sp, tss.rsp[0]);
  tss.rsp[0] -= 40;  // frames are aligned to 16 bytes
  EXPECT_EQ(user(user_int_48, 0), BP);
  EXPECT_EQ(hook_sp, (tss.rsp[0] & -16));
  tss.rsp[0] += 40;
  c = kernel_context(kernel_int_48);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(hook_sp, ((c.sp - 8) & -16));
  use_ist(0x48, 3);
  EXPECT_EQ(user(user_int_48, 0), BP);
  EXPECT_EQ(hook_sp, tss.ist[2]);
  c = kernel_context(kernel_int_48);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(hook_sp, tss.ist[2]);
  use_ist(0x48, 0);
  // A gate of interrupt type clears IF, of trap type does not; both clear TF and NT.
  c = user_context(user_int3);
  c.flags |= FL_NT | FL_CF;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.flags & FL_NT, FL_NT);
}

static void io(void) {
  SUBJECT("IOPL and the I/O bitmap");
  c = user_context(user_in);
  c.dx = 0x80;
  EXPECT_EQ(run(&c), GP);
  EXPECT_EQ(c.error, 0);
  c = user_context(user_in);
  c.dx = 0x80;
  c.flags |= FL_IOPL3;
  EXPECT_EQ(run(&c), BP);
  tss.iomap[0x80 / 8] &= ~1;
  c = user_context(user_in);
  c.dx = 0x80;
  EXPECT_EQ(run(&c), BP);
  c = user_context(user_inl);  // needs all four bits
  c.dx = 0x80;
  EXPECT_EQ(run(&c), GP);
  tss.iomap[0x80 / 8] &= ~0xf;
  c = user_context(user_inl);
  c.dx = 0x80;
  EXPECT_EQ(run(&c), BP);
  tss.iomap[0x80 / 8] = 0xff;
  tss.iomap[8191] = 0x7f;  // the last port; the processor reads the byte after it too
  c = user_context(user_in);
  c.dx = 0xffff;
  EXPECT_EQ(run(&c), BP);
  tss.iomap[8191] = 0xff;
  u16 base = tss.iomap_base;
  tss.iomap_base = sizeof tss;  // beyond the limit: nothing is allowed
  c = user_context(user_in);
  c.dx = 0x80;
  EXPECT_EQ(run(&c), GP);
  tss.iomap_base = base;

  EXPECT_EQ(user(user_cli, 0), GP);
  c = user_context(user_cli);
  c.flags |= FL_IOPL3;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.flags & FL_IF, FL_IF);
  // POPF in ring 3 changes neither IOPL nor, without IOPL, IF: silently.
  EXPECT_EQ(user(user_popf, 2 | FL_IF | FL_IOPL3 | FL_NT | FL_AC | 1 << 21), BP);
  EXPECT_EQ(c.ax, 2 | FL_NT | FL_AC | 1 << 21);
  c = user_context(user_popf);
  c.di = 2;
  c.flags |= FL_IOPL3 | FL_IF;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 2 | FL_IOPL3);
}

static void call_gates(void) {
  SUBJECT("call gates");
  static struct {
    u64 offset;
    u16 selector;
  } __attribute__((packed)) pointer = {0, FREE_SELECTOR | 3};
  u64 target = (u64)gate_target_stop;
  u64* gate = &gdt[FREE_SELECTOR / 8];
  gate[0] = (target & 0xffff) | (u64)KCODE << 16 | 0xecull << 40 | (target >> 16 & 0xffff) << 48;
  gate[1] = target >> 32;
  // lcall m16:64 takes REX.W; the gate ignores the offset, so m16:32 will do.
  static struct {
    u32 offset;
    u16 selector;
  } __attribute__((packed)) far = {0, FREE_SELECTOR | 3};
  (void)pointer;
  c = user_context(user_gate);
  c.di = (u64)&far + USER_ALIAS;
  word user_sp = c.sp;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ip, target + 1);
  EXPECT_EQ(c.cs, KCODE);
  EXPECT_EQ(c.ss, 0);  // null SS with RPL = CPL
  EXPECT_EQ(c.sp, tss.rsp[0] - 32);
  u64* frame = (u64*)c.sp;
  EXPECT_EQ(frame[0], (word)user_gate + 2 + USER_ALIAS);
  EXPECT_EQ(frame[1], UCODE);
  EXPECT_EQ(frame[2], user_sp);
  EXPECT_EQ(frame[3], UDATA);
  // And back with a far return.
  u64 back = (u64)gate_target;
  gate[0] = (back & 0xffff) | (u64)KCODE << 16 | 0xecull << 40 | (back >> 16 & 0xffff) << 48;
  extern char gate_round[];
  CODE(gate_round, "lcall *(%rdi)");
  CODE(gate_return, "mov %ss, %ecx; rex.w lret");
  back = (u64)gate_return;
  gate[0] = (back & 0xffff) | (u64)KCODE << 16 | 0xecull << 40 | (back >> 16 & 0xffff) << 48;
  c = user_context(gate_round);
  c.di = (u64)&far + USER_ALIAS;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.cs, UCODE);
  EXPECT_EQ(c.ip, (word)gate_round + 3 + USER_ALIAS);
  EXPECT_EQ(c.cx, 0);
  EXPECT_EQ(c.sp, user_sp);
  gate[0] &= ~(3ull << 45);  // DPL 0
  c = user_context(user_gate);
  c.di = (u64)&far + USER_ALIAS;
  EXPECT_EQ(run(&c), GP);
  EXPECT_EQ(c.error, FREE_SELECTOR);
  gate[0] |= 3ull << 45;
  gate[0] &= ~(1ull << 47);
  c = user_context(user_gate);
  c.di = (u64)&far + USER_ALIAS;
  EXPECT_EQ(run(&c), NP);
  EXPECT_EQ(c.error, FREE_SELECTOR);
}

static void rights(void) {
  SUBJECT("what ring 3 may ask");
  write_cr4(read_cr4() & ~0x100ul);
  EXPECT_HW_EQ(user(user_rdpmc, 0), GP);
  EXPECT_EQ(user(user_rdtsc, 0), BP);
  write_cr4(read_cr4() | 4);  // TSD
  EXPECT_EQ(user(user_rdtsc, 0), GP);
  write_cr4(read_cr4() & ~4ul);
  EXPECT_EQ(user(user_swapgs, 0), GP);
  static u64 cell = 0x55aa;
  if (cpuid_bit(7, 0, 1, 0)) {
    EXPECT_EQ(user(user_wrfs, (u64)&cell + USER_ALIAS), UD);
    write_cr4(read_cr4() | 1 << 16);
    EXPECT_EQ(user(user_wrfs, (u64)&cell + USER_ALIAS), BP);
    EXPECT_EQ(c.ax, 0x55aa);
    EXPECT_EQ(c.bx, (u64)&cell + USER_ALIAS);
    EXPECT_EQ(user(user_wrfs, 0x0000800000000000), GP);
    EXPECT_HW_EQ(rdmsr(0xc0000100), (u64)&cell + USER_ALIAS);
    wrmsr(0xc0000102, 0x7777);
    c = kernel_context(kernel_swapgs);
    c.di = 0x4242;
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(c.ax, 0x7777);
    EXPECT_EQ(c.bx, 0x4242);
    EXPECT_EQ(rdmsr(0xc0000101), 0x4242);
  }
  EXPECT_EQ(user(user_smsw, 0), BP);
  EXPECT_EQ(c.ax, (u32)read_cr0());
  EXPECT_EQ(user(user_str, 0), BP);
  EXPECT_EQ(c.ax, TSS_SELECTOR);
  if (cpuid_bit(7, 0, 2, 2)) {
    write_cr4(read_cr4() | 1 << 11);  // UMIP
    EXPECT_EQ(user(user_smsw, 0), GP);
    EXPECT_EQ(user(user_str, 0), GP);
    EXPECT_EQ(user(user_sgdt, 0), GP);
    write_cr4(read_cr4() & ~(1ul << 11));
  }
  EXPECT_EQ(user(user_sgdt, 0), BP);
  EXPECT_EQ(user(user_lar, UDATA), BP);
  EXPECT_EQ(c.ax & 0xf0ff00, 0xc0f300);  // the rest is undefined
  EXPECT_EQ(c.flags & FL_ZF, FL_ZF);
  EXPECT_EQ(user(user_lar, KDATA), BP);
  EXPECT_EQ(c.flags & FL_ZF, 0);
  EXPECT_EQ(user(user_lsl, UCODE32), BP);
  EXPECT_EQ(c.ax, 0xffffffff);
  EXPECT_EQ(user(user_verr, UDATA), BP);
  EXPECT_EQ(c.ax, 0x101);
  EXPECT_EQ(user(user_verr, UCODE), BP);
  EXPECT_EQ(c.ax, 0x001);
  EXPECT_EQ(user(user_verr, KDATA), BP);
  EXPECT_EQ(c.ax, 0);
  EXPECT_EQ(user(user_arpl_is_movsxd, 0), BP);
  EXPECT_EQ(c.ax, -5ull);
}

int main(void) {
  syscalls();
  sysenter();
  stacks();
  io();
  call_gates();
  rights();
  return 0;
}
