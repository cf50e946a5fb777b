// Compatibility mode: 32- and 16-bit code under a 64-bit kernel, segment limits and bases, mode switches by
// far transfers and IRET, instructions that exist only outside 64-bit mode (SDM vol. 1 3.3, vol. 3A 5.2).
#include "runtime.h"

#define CODE32(name, text) CODE(name, ".code32\n" text "\nint3\n.code64")
#define CODE16(name, text) CODE(name, ".code16\n" text "\nint3\n.code64")
static struct Context c;

CODE32(inc_dec, "mov $5, %eax; inc %eax; .byte 0x48; inc %ecx");  // 40h..4Fh are INC/DEC, not REX
CODE32(push32, "push $0x11223344; push %eax; pop %ebx; pop %ecx");
CODE32(upper_half, "mov $-1, %eax; add $1, %ebx");
CODE32(address_wrap, "mov $0xfffffff0, %eax; mov 0x10(%eax,%edi), %edx");
CODE32(bcd,
       "mov $0x79, %al; add $0x35, %al; daa; mov %al, %bl; mov $9, %al; add $8, %al; aaa; mov $0x53, %ecx");
CODE32(aam_aad, "mov $77, %al; aam; mov %ax, %bx; aad; mov %ax, %cx");
CODE32(aam_zero, "aam $0");
CODE32(bound_ok, "mov $5, %eax; bound %eax, (%edi)");
CODE32(bound_bad, "mov $11, %eax; bound %eax, (%edi)");
CODE32(into_set, "mov $0x7fffffff, %eax; add $1, %eax; into");
CODE32(into_clear, "xor %eax, %eax; into");
CODE32(pusha_popa, "mov %esp, %ebp; mov $7, %esi; pusha; xor %esi, %esi; mov %esp, 20(%esp); popa");
CODE32(segment_push, "push %es; pop %ecx; push %ds; pop %es; mov %es, %edx");
CODE32(les_code, "les (%edi), %eax; mov %es, %ecx");
CODE32(syscall32, "syscall");
CODE32(limit_read, "mov %fs:(%edi), %eax");
CODE32(limit_write, "movl $1, %fs:(%edi)");
CODE32(null_read, "xor %eax, %eax; mov %eax, %es; mov %es:(%edi), %eax");
CODE32(addr16, "mov $0x12345, %ebx; lea 4(%bx), %ecx");
CODE32(arpl_code, "mov $0x10, %eax; mov $3, %ecx; arpl %cx, %ax; setz %dl");
CODE32(salc_code, "stc; .byte 0xd6; movsbl %al, %eax");
CODE32(jcxz_code, "mov $0x10000, %ecx; xor %eax, %eax; jcxz 1f; inc %eax; 1: jecxz 2f; add $2, %eax; 2:");
CODE32(x87_mix, "fld1; fldpi; faddp; sub $12, %esp; fstpt (%esp); mov (%esp), %eax; mov 4(%esp), %edx");
CODE16(code16, "mov $0x1234, %ax; push %ax; pop %bx; mov $0x12345678, %ecx");
CODE32(here32, "mov $0x777, %eax");
CODE(back64, "mov $0x1122334455667788, %rax");
CODE32(jump64, "ljmp $0x2b, $back64 + 0x80000000");
CODE(to_compat, "push %rdi; push %rsi; lretq; 1: nop");

static u32 table[16] = {0, 10, 0xabcd, 0x1234};

static struct Context user32(void* code) {
  struct Context x = user_context(code);
  x.cs = UCODE32;
  return x;
}
static int go(void* code) {
  c = user32(code);
  c.di = (word)table + USER_ALIAS;
  return run(&c);
}

int main(void) {
  SUBJECT("32-bit code");
  c = user32(inc_dec);
  c.cx = 10;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 5);  // incremented, then 48h is DEC EAX
  EXPECT_EQ(c.cx, 11);
  word sp = user32(push32).sp;
  EXPECT_EQ(go(push32), BP);
  EXPECT_EQ(c.cx, 0x11223344);
  EXPECT_EQ(c.sp, sp);
  c = user32(upper_half);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0xffffffff);
  EXPECT_EQ(go(address_wrap), BP);  // effective addresses wrap at 4 GiB
  EXPECT_EQ(c.dx, 0);
  EXPECT_EQ(go(bcd), BP);
  EXPECT_EQ(c.bx & 0xff, 0x14);
  EXPECT_EQ(c.ax & 0xff, 7);
  EXPECT_EQ(go(aam_aad), BP);
  EXPECT_EQ(c.bx & 0xffff, 0x0707);
  EXPECT_EQ(c.cx & 0xffff, 77);
  EXPECT_EQ(go(aam_zero), DE);
  EXPECT_EQ(go(bound_ok), BP);
  EXPECT_EQ(go(bound_bad), BR);
  EXPECT_EQ(c.ip, (word)bound_bad + 5 + USER_ALIAS);
  EXPECT_EQ(go(into_set), OF);
  EXPECT_EQ(c.ip, (word)into_set + 9 + USER_ALIAS);  // a trap: after INTO
  EXPECT_EQ(go(into_clear), BP);
  EXPECT_EQ(go(pusha_popa), BP);
  EXPECT_EQ(c.si, 7);
  EXPECT_EQ(c.dx, c.bp - 32);
  EXPECT_EQ(go(segment_push), BP);
  EXPECT_EQ(c.cx & 0xffff, UDATA);
  EXPECT_EQ(c.dx, UDATA);
  static struct {
    u32 offset;
    u16 selector;
  } far = {0x55667788, UDATA};
  c = user32(les_code);
  c.di = (word)&far + USER_ALIAS;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0x55667788);
  EXPECT_EQ(c.cx, UDATA);
  EXPECT_HW_EQ(go(syscall32), UD);  // Intel: SYSCALL only from 64-bit mode
  EXPECT_EQ(go(arpl_code), BP);
  EXPECT_EQ(c.ax & 0xffff, 0x13);
  EXPECT_EQ(c.dx & 0xff, 1);
  EXPECT_EQ(go(salc_code), BP);
  EXPECT_EQ(c.ax, 0xffffffff);
  EXPECT_EQ(go(jcxz_code), BP);
  EXPECT_EQ(c.ax, 2);
  EXPECT_EQ(go(addr16), BP);
  EXPECT_EQ(c.cx, 0x2349);
  asm volatile("fninit");
  EXPECT_EQ(go(x87_mix), BP);
  EXPECT_EQ(c.ax, 0x10b4611a);  // 1 + pi is 8487ed5110b4611a * 2^-61
  EXPECT_EQ(c.dx, 0x8487ed51);

  SUBJECT("segments");
  u64* free = &gdt[FREE_SELECTOR / 8];
  // FS: base = table, limit 7 bytes, data, DPL 3, byte granular.
  u64 base = (u64)table + USER_ALIAS;
  u64 small = 7 | (base & 0xffffff) << 16 | 0xf3ull << 40 | 4ull << 52 | (base >> 24) << 56;
  free[0] = small;
  asm volatile("mov %0, %%fs" ::"r"(FREE_SELECTOR | 3));
  c = user32(limit_read);
  c.di = 4;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 10);
  c = user32(limit_read);
  c.di = 5;
  EXPECT_HW_EQ(run(&c), GP);
  EXPECT_HW_EQ(c.error, 0);
  c = user32(limit_read);
  c.di = 0xfffffffe;  // wraps: outside
  EXPECT_HW_EQ(run(&c), GP);
  free[0] = small & ~(2ull << 40);  // read-only
  asm volatile("mov %0, %%fs" ::"r"(FREE_SELECTOR | 3));
  c = user32(limit_write);
  EXPECT_HW_EQ(run(&c), GP);
  free[0] = small | 4ull << 40;  // expand-down: valid above the limit only
  asm volatile("mov %0, %%fs" ::"r"(FREE_SELECTOR | 3));
  c = user32(limit_read);
  c.di = 8;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0xabcd);
  c = user32(limit_read);
  c.di = 4;
  EXPECT_HW_EQ(run(&c), GP);
  asm volatile("mov %0, %%fs" ::"r"(0));
  c = user32(null_read);
  c.di = (word)table + USER_ALIAS;
  EXPECT_HW_EQ(run(&c), GP);

  SUBJECT("16-bit code");
  base = (u64)code16 + USER_ALIAS;
  free[0] = 0xffff | (base & 0xffffff) << 16 | 0xfbull << 40 | (base >> 24) << 56;
  c = user32(0);
  c.ip = 0;
  c.cs = FREE_SELECTOR | 3;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx & 0xffff, 0x1234);
  EXPECT_EQ(c.cx, 0x12345678);
  EXPECT_EQ(c.ip, 12);
  // Running off the end of a code segment.
  for (int limit = 0; limit < 11; limit++) {
    // MOV at 0, PUSH at 3, POP at 4, MOV at 5, INT3 at 11
    free[0] = (free[0] & ~0xffffull) | limit;
    c = user32(0);
    word sp = c.sp;
    c.ip = 0;
    c.cs = FREE_SELECTOR | 3;
    EXPECT_HW_EQ(run(&c), GP);
    EXPECT_HW_EQ(c.error, 0);
    EXPECT_HW_EQ(c.ip, limit < 2 ? 0 : limit == 2 ? 3 : limit == 3 ? 4 : limit < 10 ? 5 : 11);
    EXPECT_HW_EQ(c.sp, limit == 3 ? sp - 2 : sp);
  }

  SUBJECT("mode switches by far return");
  c = kernel_context(to_compat);
  c.di = KCODE32;
  c.si = (word)here32;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0x777);
  EXPECT_EQ(c.cs, KCODE32);
  EXPECT_EQ(go(jump64), BP);
  EXPECT_EQ(c.cs, UCODE);
  EXPECT_EQ(c.ax, 0x1122334455667788);
  return 0;
}
