#include "runtime.h"

Hook hooks[256];
struct Tss tss;
int failures, on_qemu;
extern struct Context* run_context;
extern char trap_stubs[];
__attribute__((noreturn)) void run_return(int vector);

static u8 kernel_stack[16384] __attribute__((aligned(16)));  // TSS.RSP0
static u8 snippet_stack[16384] __attribute__((aligned(16)));

void put_char(char c) {
  while (!(inb(0x3fd) & 0x20)) {
  }
  outb(0x3f8, c);
}
void put_string(const char* s) {
  while (*s) put_char(*s++);
}
void put_hex(u64 v) {
  put_string("0x");
  int shift = 60;
  while (shift && !(v >> shift)) shift -= 4;
  for (; shift >= 0; shift -= 4) put_char("0123456789abcdef"[v >> shift & 15]);
}
void put_decimal(u64 value) {
  // Shift-and-add-3, so that 32-bit kernels need no 64-bit division from libgcc.
  u8 digits[20] = {0};
  for (int bit = 63; bit >= 0; bit--) {
    int carry = value >> bit & 1;
    for (int i = 0; i < 20; i++) {
      int d = digits[i] * 2 + carry;
      carry = d >= 10;
      digits[i] = carry ? d - 10 : d;
    }
  }
  int i = 19;
  while (i && !digits[i]) i--;
  for (; i >= 0; i--) put_char('0' + digits[i]);
}

void finish(int unused) {
  (void)unused;
  if (failures) {
    put_string("FAIL ");
    put_decimal(failures);
    put_string("\n");
  } else {
    put_string("PASS\n");
  }
  outb(0xf4, failures != 0);
  for (;;) asm volatile("cli; hlt");
}

void expect_equal(u64 actual, u64 expected, const char* text, const char* file, int line) {
  if (actual == expected) return;
  failures++;
  const char* base = file;
  for (const char* p = file; *p; p++)
    if (*p == '/') base = p + 1;
  put_string(base);
  put_string(":");
  put_decimal(line);
  put_string(": ");
  put_string(text);
  put_string(" is ");
  put_hex(actual);
  put_string(", expected ");
  put_hex(expected);
  put_string("\n");
}

void expect_equal_hw(u64 actual, u64 expected, const char* text, const char* file, int line) {
  if (!on_qemu) expect_equal(actual, expected, text, file, line);
}

int cpuid_bit(u32 leaf, u32 sub, int reg, int bit) {
  u32 r[4];
  cpuid(leaf & 0xffff0000, 0, r);
  if (r[0] < leaf) return 0;
  cpuid(leaf, sub, r);
  return r[reg] >> bit & 1;
}

void* memset(void* p, int v, word n) {
  u8* b = p;
  while (n--) *b++ = v;
  return p;
}
void* memcpy(void* to, const void* from, word n) {
  u8* t = to;
  const u8* f = from;
  while (n--) *t++ = *f++;
  return to;
}

static void unexpected(struct Context* f) {
  failures++;
  put_string("unexpected vector ");
  put_decimal(f->vector);
  put_string(" error ");
  put_hex(f->error);
  put_string(" at ");
  put_hex(f->cs);
  put_string(":");
  put_hex(f->ip);
  put_string(" cr2 ");
  put_hex(read_cr2());
  put_string("\n");
  finish(0);
}

void trap_dispatch(struct Context* f) {
  f->vector &= 0xff;  // 32-bit stubs push it sign-extended
  if (hooks[f->vector]) {
    hooks[f->vector](f);
    return;
  }
  struct Context* c = run_context;
  if (!c) unexpected(f);
#ifdef __x86_64__
  memcpy(c, f, __builtin_offsetof(struct Context, cr2));
#else
  // A trap from ring 0 pushed no ESP and SS: they are the registers' values before the trap.
  int outer = (f->cs & 3) || (f->flags & FL_VM);
  memcpy(c, f, __builtin_offsetof(struct Context, sp));
  c->sp = outer ? f->sp : (word)&f->sp;
  c->ss = outer ? f->ss : KDATA;
  if (f->flags & FL_VM) memcpy(&c->v86_es, &f->v86_es, 4 * sizeof(word));
#endif
  c->cr2 = read_cr2();
  c->dr6 = read_dr6();
  run_context = 0;
  run_return(f->vector);
}

struct Context kernel_context(void* code) {
  struct Context c;
  memset(&c, 0, sizeof c);
  c.ip = (word)code;
  c.cs = KCODE;
  c.ss = c.ds = KDATA;
  c.flags = 2;
  c.sp = (word)snippet_stack + sizeof snippet_stack;
  return c;
}

#ifdef __x86_64__
static u8 ist_stack[4][8192] __attribute__((aligned(16)));
static struct {
  u16 offset0, selector;
  u8 ist, type;
  u16 offset1;
  u32 offset2, reserved;
} idt[256];

struct Context user_context(void* code) {
  struct Context c = kernel_context(code);
  c.ip += USER_ALIAS;
  c.sp += USER_ALIAS;
  c.cs = UCODE;
  c.ss = c.ds = UDATA;
  return c;
}
void set_gate(int vector, void* handler, int selector, int type, int dpl, int ist) {
  u64 p = (u64)handler;
  idt[vector].offset0 = p;
  idt[vector].offset1 = p >> 16;
  idt[vector].offset2 = p >> 32;
  idt[vector].selector = selector;
  idt[vector].ist = ist;
  idt[vector].type = 0x80 | dpl << 5 | type;
}
void use_ist(int vector, int ist) { idt[vector].ist = ist; }
#else
static struct {
  u16 offset0, selector;
  u8 ist, type;
  u16 offset1;
} idt[256];

struct Context user_context(void* code) {
  struct Context c = kernel_context(code);
  c.cs = UCODE;
  c.ss = c.ds = UDATA;
  return c;
}
void set_gate(int vector, void* handler, int selector, int type, int dpl, int ist) {
  u32 p = (u32)handler;
  idt[vector].offset0 = p;
  idt[vector].offset1 = p >> 16;
  idt[vector].selector = selector;
  idt[vector].ist = ist;  // reserved, zero
  idt[vector].type = 0x80 | dpl << 5 | type;
}
#endif
void set_gate_dpl(int vector, int dpl) { idt[vector].type = (idt[vector].type & ~0x60) | dpl << 5; }

void runtime_init(void) {
  u32 r[4];
  cpuid(0x40000000, 0, r);
  on_qemu = cpuid_bit(1, 0, 2, 31) && r[1] == 0x54474354;  // "TCGT"
  asm volatile("lldt %0" ::"r"((u16)0));
  outb(0x3f9, 0);  // no interrupts, 115200 8N1, FIFOs on
  outb(0x3fb, 0x80);
  outb(0x3f8, 1);
  outb(0x3f9, 0);
  outb(0x3fb, 3);
  outb(0x3fa, 7);
  outb(0x3fc, 0xb);
  outb(0x21, 0xff);  // both 8259s masked
  outb(0xa1, 0xff);

  for (int i = 0; i < 256; i++)
    set_gate(i, trap_stubs + 16 * i, KCODE, 14, i == BP || i == OF || i == 0x80 ? 3 : 0, 0);
  struct TablePointer p = {sizeof idt - 1, (word)idt};
  asm volatile("lidt %0" ::"m"(p));

  tss.iomap_base = __builtin_offsetof(struct Tss, iomap);
  memset(tss.iomap, 0xff, sizeof tss.iomap);
  u64 base = (word)&tss;
#ifdef __x86_64__
  tss.rsp[0] = (u64)kernel_stack + sizeof kernel_stack;
  for (int i = 0; i < 4; i++) tss.ist[i] = (u64)(ist_stack[i] + sizeof ist_stack[i]);
  gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
#else
  tss.esp0 = (u32)kernel_stack + sizeof kernel_stack;
  tss.ss0 = KDATA;
#endif
  u64 limit = sizeof tss - 1;
  gdt[TSS_SELECTOR / 8] = limit | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
  asm volatile("ltr %0" ::"r"((u16)TSS_SELECTOR));
}
