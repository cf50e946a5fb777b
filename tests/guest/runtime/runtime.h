// What every test kernel has: serial output, expectations, traps. A kernel defines main(), which returns
// after its last EXPECT; the runtime then prints "PASS" or "FAIL n" and leaves through the debug-exit port
// 0xF4 with value 0 or 1 (QEMU's isa-debug-exit: process status (value << 1) | 1).
//
// run() executes a Context, any mode and ring, until something traps and no hook takes it; it returns the
// vector, and the Context then holds the registers as pushed. Snippets therefore end with int3.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned long word;  // the width of a general register

enum {
  DE = 0,
  DB = 1,
  NMI = 2,
  BP = 3,
  OF = 4,
  BR = 5,
  UD = 6,
  NM = 7,
  DF = 8,
  TS = 10,
  NP = 11,
  SS = 12,
  GP = 13,
  PF = 14,
  MF = 16,
  AC = 17,
  XM = 19,
};
enum {
  FL_CF = 1,
  FL_ZF = 1 << 6,
  FL_TF = 1 << 8,
  FL_IF = 1 << 9,
  FL_DF = 1 << 10,
  FL_IOPL3 = 3 << 12,
  FL_NT = 1 << 14,
  FL_RF = 1 << 16,
  FL_VM = 1 << 17,
  FL_AC = 1 << 18,
};
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };  // page-fault error code

#ifdef __x86_64__
#define USER_ALIAS 0x80000000ul  // user-accessible alias of physical 0..1 GiB
enum {
  KCODE = 0x08,
  KDATA = 0x10,
  UCODE32 = 0x1b,
  UDATA = 0x23,
  UCODE = 0x2b,
  KCODE32 = 0x38,
  KCODE16 = 0x40,
  KDATA16 = 0x48,
  FREE_SELECTOR = 0x50,
  TSS_SELECTOR = 0x88,
};
struct Context {
  word r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
  word vector, error, ip, cs, flags, sp, ss;
  word cr2, dr6, ds;  // ds is loaded into DS and ES by run()
};
struct Tss {
  u32 reserved0;
  u64 rsp[3], reserved1, ist[7], reserved2;
  u16 reserved3, iomap_base;
  u8 iomap[8192 + 1];
} __attribute__((packed));
#else
enum {
  KCODE = 0x08,
  KDATA = 0x10,
  UCODE = 0x1b,
  UDATA = 0x23,
  KCODE16 = 0x28,
  KDATA16 = 0x30,
  FREE_SELECTOR = 0x38,
  TSS_SELECTOR = 0x78,
};
struct Context {
  word di, si, bp, pusha_sp, bx, dx, cx, ax;
  word vector, error, ip, cs, flags, sp, ss;  // sp and ss are stored also when the trap came from ring 0
  word v86_es, v86_ds, v86_fs, v86_gs;        // pushed and popped by traps from and IRET to v8086 mode only
  word cr2, dr6, ds;
};
struct Tss {
  u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
  u32 es, cs, ss, ds, fs, gs, ldt;
  u16 trap, iomap_base;
  u8 iomap[8192 + 1];
} __attribute__((packed));
#endif

typedef void (*Hook)(struct Context* frame);  // frame: only the fields up to ss; changes take effect at IRET
extern Hook hooks[256];
extern u64 gdt[];
extern struct Tss tss;
struct TablePointer {
  u16 limit;
  word base;
} __attribute__((packed));

int run(struct Context* c);
void trap_dispatch(struct Context* frame);
struct Context kernel_context(void* code);
struct Context user_context(void* code);  // 64-bit: `code` is moved to the user alias
void set_gate(int vector, void* handler, int selector, int type, int dpl, int ist);
void use_ist(int vector, int ist);
void set_gate_dpl(int vector, int dpl);

void put_char(char c);
void put_string(const char* s);
void put_hex(u64 value);
void put_decimal(u64 value);
__attribute__((noreturn)) void finish(int unused);
extern int failures;
void expect_equal(u64 actual, u64 expected, const char* text, const char* file, int line);

// Both compare 64-bit values and carry on after a difference.
#define EXPECT_EQ(actual, expected) expect_equal((u64)(actual), (u64)(expected), #actual, __FILE__, __LINE__)
#define EXPECT(condition) expect_equal(!!(condition), 1, #condition, __FILE__, __LINE__)
// The same where QEMU's TCG is known to answer otherwise than the manual; QEMU is where guests are tried out.
#define EXPECT_HW_EQ(actual, expected) \
  expect_equal_hw((u64)(actual), (u64)(expected), #actual, __FILE__, __LINE__)
void expect_equal_hw(u64 actual, u64 expected, const char* text, const char* file, int line);
extern int on_qemu;
#define SUBJECT(name) put_string(name "\n")

// A named piece of code: `extern char name[]`, followed by int3.
#define CODE(name, text) \
  extern char name[];    \
  asm(".pushsection .snippets,\"ax\"\n.globl " #name "\n" #name ":\n" text "\nint3\n.popsection")

static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) {
  u8 v;
  asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u16 inw(u16 port) {
  u16 v;
  asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u32 inl(u16 port) {
  u32 v;
  asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u64 rdmsr(u32 n) {
  u32 a, d;
  asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(n));
  return a | (u64)d << 32;
}
static inline void wrmsr(u32 n, u64 v) {
  asm volatile("wrmsr" ::"c"(n), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void) {
  u32 a, d;
  asm volatile("rdtsc" : "=a"(a), "=d"(d));
  return a | (u64)d << 32;
}
static inline void cpuid(u32 leaf, u32 sub, u32 out[4]) {
  asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(sub));
}
// Bit of a CPUID register (0..3 = EAX..EDX); 0 when the leaf is beyond the maximum.
int cpuid_bit(u32 leaf, u32 sub, int reg, int bit);
#define REGISTER_ACCESS(name)                      \
  static inline word read_##name(void) {           \
    word v;                                        \
    asm volatile("mov %%" #name ", %0" : "=r"(v)); \
    return v;                                      \
  }                                                \
  static inline void write_##name(word v) { asm volatile("mov %0, %%" #name ::"r"(v) : "memory"); }
REGISTER_ACCESS(cr0)
REGISTER_ACCESS(cr2)
REGISTER_ACCESS(cr3)
REGISTER_ACCESS(cr4)
REGISTER_ACCESS(dr0)
REGISTER_ACCESS(dr1)
REGISTER_ACCESS(dr2)
REGISTER_ACCESS(dr3)
REGISTER_ACCESS(dr6)
REGISTER_ACCESS(dr7)
#ifdef __x86_64__
REGISTER_ACCESS(cr8)
#endif
static inline void invlpg(void* p) { asm volatile("invlpg (%0)" ::"r"(p) : "memory"); }
static inline void sti(void) { asm volatile("sti" ::: "memory"); }
static inline void cli(void) { asm volatile("cli" ::: "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
// Waits for one interrupt with no window between STI and HLT.
static inline void sti_hlt_cli(void) { asm volatile("sti; hlt; cli" ::: "memory"); }
// Opens the interrupt window for a few instructions.
static inline void window(void) { asm volatile("sti; nop; nop; nop; nop; cli" ::: "memory"); }
void* memset(void* p, int v, word n);
void* memcpy(void* to, const void* from, word n);
