// 32-bit protected mode: segment limits, call gates with parameters, task switches, ring 1 stacks, v8086 mode
// (SDM vol. 3A chapters 3, 5, 7, 20).
#include "runtime.h"

static struct Context c;
static u32 words[16];

CODE(read_fs, "mov %fs:(%edi), %eax");
CODE(write_fs, "movl $1, %fs:(%edi)");
CODE(load_fs, "mov %edi, %fs");
CODE(bound_code, "mov $9, %eax; bound %eax, (%edi)");
CODE(into_code, "mov $0x7fffffff, %eax; inc %eax; into");
CODE(user_int, "int $0x48; nop");
CODE(far_jump, "ljmp *(%edi)");
CODE(user_gate, "push $0x1111; push $0x2222; lcall *(%edi); mov %esp, %ebx");
CODE(gate_target, "mov 8(%esp), %eax; mov 12(%esp), %ecx; mov %ss, %edx; lret $8");
CODE(task_call, "lcall *(%edi); mov $3, %ebx");
CODE(task_body, "mov $0x99, %eax; mov %eax, (%esi); iret; movl $0x55, (%esi); iret");
CODE(code16, ".code16\nmov $0x1234, %ax\nmov %ax, %bx\nint3\n.code32");
CODE(v86_code, ".code16\nmov %cs, %ax\nmov $0x77, %bl\nmovw %bx, %ds:(0)\nint $0x21\n.code32");
CODE(v86_hlt, ".code16\nhlt\n.code32");
CODE(v86_pushf, ".code16\npushf\n.code32");

static u64 descriptor(u32 base, u32 limit, u32 access, u32 flags) {
  return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 | (u64)(limit >> 16 & 15) << 48 |
         (u64)flags << 52 | (u64)(base >> 24) << 56;
}
static int with_fs(void* code, u64 d, word di) {
  gdt[FREE_SELECTOR / 8] = d;
  asm volatile("mov %0, %%fs" ::"r"(FREE_SELECTOR));
  c = kernel_context(code);
  c.di = di;
  return run(&c);
}

static void limits(void) {
  SUBJECT("limits");  // QEMU's TCG checks none
  words[1] = 77;
  EXPECT_EQ(with_fs(read_fs, descriptor((u32)words, 7, 0x93, 4), 4), BP);
  EXPECT_EQ(c.ax, 77);
  EXPECT_HW_EQ(with_fs(read_fs, descriptor((u32)words, 7, 0x93, 4), 5), GP);
  EXPECT_HW_EQ(with_fs(read_fs, descriptor((u32)words, 7, 0x93, 4), 0xffffffff), GP);
  EXPECT_EQ(with_fs(read_fs, descriptor(0, 0xfffff, 0x93, 0xc), (word)words), BP);
  EXPECT_HW_EQ(with_fs(write_fs, descriptor((u32)words, 7, 0x91, 4), 0), GP);   // read-only
  EXPECT_HW_EQ(with_fs(write_fs, descriptor((u32)words, 63, 0x9b, 4), 0), GP);  // code
  EXPECT_HW_EQ(with_fs(read_fs, descriptor((u32)words, 7, 0x97, 4), 7), GP);    // expand-down
  EXPECT_EQ(with_fs(read_fs, descriptor((u32)words, 7, 0x97, 4), 8), BP);
  gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, 0x99, 0xc);  // execute-only cannot be loaded into FS
  c = kernel_context(load_fs);
  c.di = FREE_SELECTOR;
  EXPECT_EQ(run(&c), GP);
  EXPECT_EQ(c.error, FREE_SELECTOR);
  asm volatile("mov %0, %%fs" ::"r"(0));
  static u32 range[2] = {1, 8};
  c = user_context(bound_code);
  c.di = (word)range;
  EXPECT_EQ(run(&c), BR);
  c = user_context(into_code);
  EXPECT_EQ(run(&c), OF);
}

static word frame_at;
static void stack_hook(struct Context* f) { frame_at = (word)f + __builtin_offsetof(struct Context, v86_es); }

static void transfers(void) {
  SUBJECT("gates and 16-bit code");
  hooks[0x48] = stack_hook;
  set_gate_dpl(0x48, 3);
  c = user_context(user_int);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(frame_at, tss.esp0);
  // Call gate, DPL 3, two parameters, to ring 0.
  u32 target = (u32)gate_target;
  gdt[FREE_SELECTOR / 8] =
      (target & 0xffff) | KCODE << 16 | 2ull << 32 | 0xecull << 40 | (u64)(target >> 16) << 48;
  static struct {
    u32 offset;
    u16 selector;
  } far = {0, FREE_SELECTOR | 3};
  c = user_context(user_gate);
  word sp = c.sp;
  c.di = (word)&far;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0x2222);
  EXPECT_EQ(c.cx, 0x1111);
  EXPECT_EQ(c.dx & 3, 0);
  EXPECT_EQ(c.bx, sp);
  EXPECT_EQ(c.cs, UCODE);
  gdt[FREE_SELECTOR / 8] = descriptor((u32)code16, 0xffff, 0x9b, 0);
  far.selector = FREE_SELECTOR;
  c = kernel_context(far_jump);
  c.di = (word)&far;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx & 0xffff, 0x1234);
  EXPECT_EQ(c.cs, FREE_SELECTOR);
}

static struct Tss other;
static u8 other_stack[1024] __attribute__((aligned(16)));

static void tasks(void) {
  SUBJECT("task switches");
  static u32 cell;
  memset(&other, 0, sizeof other);
  other.eip = (u32)task_body;
  other.esp = (u32)other_stack + sizeof other_stack;
  other.eflags = 2;
  other.cs = KCODE;
  other.ss = other.ds = other.es = KDATA;
  other.esi = (u32)&cell;
  other.iomap_base = sizeof other;
  gdt[FREE_SELECTOR / 8] = descriptor((u32)&other, 103, 0x89, 0);
  static struct {
    u32 offset;
    u16 selector;
  } far = {0, FREE_SELECTOR};
  c = kernel_context(task_call);
  c.di = (word)&far;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(cell, 0x99);
  EXPECT_EQ(c.bx, 3);
  EXPECT_EQ(other.link, TSS_SELECTOR);
  EXPECT_EQ(other.eflags & FL_NT, 0);                    // IRET stored it cleared
  EXPECT_EQ(gdt[FREE_SELECTOR / 8] >> 40 & 0xff, 0x89);  // no longer busy
  EXPECT_EQ(gdt[TSS_SELECTOR / 8] >> 40 & 0xff, 0x8b);
  EXPECT_EQ(read_cr0() & 8, 8);  // TS
  asm volatile("clts");
  c = kernel_context(task_call);  // goes on after its IRET
  c.di = (word)&far;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(cell, 0x55);
  asm volatile("clts");
  gdt[FREE_SELECTOR / 8] &= ~(1ull << 47);
  c = kernel_context(task_call);
  c.di = (word)&far;
  EXPECT_EQ(run(&c), NP);
  EXPECT_EQ(c.error, FREE_SELECTOR);
  // A task gate in the IDT.
  gdt[FREE_SELECTOR / 8] |= 1ull << 47;
  other.eip = (u32)task_body;
  set_gate(0x49, 0, FREE_SELECTOR, 5, 3, 0);
  CODE(task_int, "int $0x49; mov $4, %ebx");
  c = kernel_context(task_int);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx, 4);
  EXPECT_EQ(cell, 0x99);
  asm volatile("clts");
}

static struct Context v86(void* code) {
  // The snippet is copied to 9000:0, its stack is at 9000:fff0, its data at 9100:0.
  memcpy((void*)0x90000, code, 64);
  c = user_context(0);
  c.ip = 0;
  c.cs = 0x9000;
  c.ss = 0x9000;
  c.sp = 0xfff0;
  c.v86_ds = c.v86_es = 0x9100;
  c.v86_fs = c.v86_gs = 0;
  c.flags = 2 | FL_VM;
  return c;
}

static void v8086(void) {
  SUBJECT("v8086 mode");
  c = v86(v86_code);
  EXPECT_EQ(run(&c), GP);  // INT n with IOPL < 3
  EXPECT_EQ(c.error, 0);
  EXPECT_EQ(c.cs, 0x9000);
  EXPECT_EQ(c.ax & 0xffff, 0x9000);
  EXPECT_EQ(*(u8*)0x91000, 0x77);
  EXPECT_EQ(c.ss, 0x9000);
  EXPECT_EQ(c.sp, 0xfff0);
  EXPECT_EQ(c.v86_ds, 0x9100);
  EXPECT_EQ(c.flags & FL_VM, FL_VM);
  set_gate_dpl(0x21, 3);
  c = v86(v86_code);
  c.flags |= FL_IOPL3;
  EXPECT_EQ(run(&c), 0x21);
  c = v86(v86_hlt);
  EXPECT_EQ(run(&c), GP);
  c = v86(v86_pushf);
  EXPECT_EQ(run(&c), GP);
  c = v86(v86_pushf);
  c.flags |= FL_IOPL3;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.sp, 0xffee);
}

int main(void) {
  limits();
  transfers();
  tasks();
  v8086();
  return 0;
}
