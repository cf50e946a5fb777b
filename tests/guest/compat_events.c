// Events and system calls from compatibility mode, with everything that the processor reads and writes for
// them (IDT, GDT, LDT, TSS, stacks, handlers) in the upper half of the address space, where IA-32e mode has
// 64-bit addresses whatever the code segment is (SDM vol. 3A 5.8.3.1, 6.14). Each structure spans a multiple
// of 4 GiB, so that an address cut to 32 bits is seen in the first page and in the second. Cold: the
// page-table entries of all of them are written right before, so that no TLB holds any.
#include "apic.h"
#include "paging.h"

#define CODE32(name, text) CODE(name, ".code32\n" text "\nint3\n.code64")
// Writes the page-table entries that the array at ESI names: for snippets of ring 0.
#define COOL "mov $ENTRIES, %ecx\n9: mov -4(%esi,%ecx,4), %ebx\nxorl $0x200, (%ebx)\nloop 9b\n"
#define EVENT(name, before, insn)                                                                            \
  extern char name##_at[], name##_end[], name##_cool_at[], name##_cool_end[];                                \
  CODE32(name, before "\n.globl " #name "_at, " #name "_end\n" #name "_at: " insn "\n" #name "_end:");       \
  CODE32(name##_cool, COOL before "\n.globl " #name "_cool_at, " #name "_cool_end\n" #name "_cool_at: " insn \
                                  "\n" #name "_cool_end:")
asm("ENTRIES = 20");
enum { ENTRIES = 20 };

EVENT(divide, "xor %ecx, %ecx; xor %edx, %edx; mov $5, %eax", "div %ecx");
EVENT(icebp, "", ".byte 0xf1");
EVENT(step, "push $0x102; popf", "nop");
EVENT(watched, "", "mov (%edi), %eax");
EVENT(breakpoint, "", "int3");
EVENT(overflow, "mov $0x7fffffff, %eax; add $1, %eax", "into");
EVENT(bounds, "mov $11, %eax", "bound %eax, (%edi)");
EVENT(undefined, "", "ud2");
EVENT(syscall_code, "", "syscall");
EVENT(x87, "", "fld1");
EVENT(int80, "", "int $0x80");
EVENT(int41, "", "int $0x41");
EVENT(int42, "", "int $0x42");
EVENT(load_es, "", "mov %edi, %es");
EVENT(load_ss, "", "mov %edi, %ss");
EVENT(load_fs, "push %edi", "pop %fs");
EVENT(far_call, "", "lcall $0x53, $0");
EVENT(far_jump, "", "ljmp *(%edi)");
EVENT(halt, "", "hlt");
EVENT(unmapped_read, "", "mov 0x3fe00010, %eax");
EVENT(unmapped_write, "", "mov %eax, 0x3fe00020");
EVENT(unmapped_jump, "mov $0x3fe00030, %eax", "jmp *%eax");
EVENT(x87_error, "fninit; fldcw (%edi); fldz; fld1; fdivp", "fwait");
EVENT(misaligned, "", "mov 1(%edi), %eax");
EVENT(sse_error, "ldmxcsr (%edi); mov $1, %eax; cvtsi2sd %eax, %xmm0; xorps %xmm1, %xmm1",
      "divsd %xmm1, %xmm0");
EVENT(spin, "", "jmp 8f; 8: jmp 8b");
EVENT(input, "", "in $0x80, %al");
EVENT(segments, "lar %edi, %eax; setz %bl; lsl %edi, %ecx; setz %bh; verr %di; setz %dl; verw %di; setz %dh",
      "mov %edi, %es");
CODE32(sysenter32, "mov %esp, %ebp; sysenter");
CODE(entry64, "push %rax");

// --- four pages of memory around each multiple of 4 GiB

enum { IDT, TABLE, LDT, TASK, STACK, ARENAS };
static u8 arenas[ARENAS][4 * 4096] __attribute__((aligned(4096)));
static u64* entries[ENTRIES];
static u32 entry_list[ENTRIES];  // for COOL
#define BOUNDARY(arena) (0xffff888100000000ull + ((u64)(arena) << 32))
#define HIGH_TEXT 0xffffffff80000000ull

static void cool(void) {
  for (int i = 0; i < ENTRIES; i++) *entries[i] ^= 0x200;  // a bit that the processor ignores
}
// Copies a structure so that its byte `at` is the first beyond the boundary; its address.
static u64 place(int arena, const void* from, u64 size, u64 at) {
  memcpy(arenas[arena] + 2 * 4096 - at, from, size);
  return BOUNDARY(arena) - at;
}
static void* beyond(int arena) { return arenas[arena] + 2 * 4096; }

static u8* idt_low;  // the runtime's
static u64* live_gdt;
static struct { u8 bytes[104], iomap[34]; } task;

static void use_idt(int vector) {
  struct TablePointer p = {4095, place(IDT, idt_low, 4096, 16 * vector + 4)};
  asm volatile("lidt %0" ::"m"(p));
}
// The descriptor that spans the boundary is `selector`'s.
static void use_gdt(int selector) {
  u64 at = (selector & ~7) + 4;
  struct TablePointer p = {TSS_SELECTOR + 15, place(TABLE, gdt, TSS_SELECTOR + 16, at)};
  live_gdt = (u64*)((u8*)beyond(TABLE) - at);
  asm volatile("lgdt %0" ::"m"(p));
}
// A TSS whose byte `at` is beyond the boundary.
static void use_tss(u32 limit, u64 at) {
  u64 base = place(TASK, &task, sizeof task, at);
  u64* d = &live_gdt[TSS_SELECTOR / 8];
  d[0] = limit | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
  d[1] = base >> 32;
  asm volatile("ltr %0" ::"r"((u16)TSS_SELECTOR));
}
static void use_ldt(u64 descriptor) {
  static u64 table[4];
  table[2] = descriptor;
  u64 base = place(LDT, table, sizeof table, 20);
  u64* d = &live_gdt[FREE_SELECTOR / 8];
  d[0] = 31 | (base & 0xffffff) << 16 | 0x82ull << 40 | (base >> 24 & 0xff) << 56;
  d[1] = base >> 32;
  asm volatile("lldt %0" ::"r"((u16)FREE_SELECTOR));
}
enum { LDT_SELECTOR = 0x14, RSP0 = 4, IST1 = 36, IOMAP = 102, SMALL_TSS = 103 };

// --- events

enum Where { FAULT, TRAP, ELSEWHERE };  // RIP is the instruction's, the next one's, or is not looked at
struct Event {
  const char* name;
  char *code[2], *at[2], *end[2];  // [1]: with COOL
  enum Where where;
  int vector, error;  // error: NONE, or what is pushed (of #PF without the bit for user mode)
  int rings, cross;   // RING0 | RING3; whose descriptor spans the boundary
  word di, flags;     // a pointer into memory is moved to the alias for ring 3
  int not_qemu;       // QEMU's TCG does not do this
};
enum { NONE = -1, RING0 = 1, RING3 = 2, BOTH = 3 };
#define E(name) \
#name, {name, name##_cool }, {name##_at, name##_cool_at }, { name##_end, name##_cool_end }
static u32 bound_pair[2] = {0, 10}, unmasked_x87 = 0x37b, unmasked_sse = 0x1d80;
static struct {
  u32 offset;
  u16 selector;
} far_pointer = {0, TSS_SELECTOR};

static const struct Event events[] = {
    {E(divide), FAULT, DE, NONE, BOTH, KCODE, 0, 0, 0},
    {E(icebp), TRAP, DB, NONE, BOTH, KCODE, 0, 0, 1},
    {E(step), TRAP, DB, NONE, BOTH, KCODE, 0, 0, 0},
    {E(watched), TRAP, DB, NONE, BOTH, KCODE, (word)bound_pair, 0, 0},
    {E(breakpoint), TRAP, BP, NONE, BOTH, KCODE, 0, 0, 0},
    {E(overflow), TRAP, OF, NONE, BOTH, KCODE, 0, 0, 0},
    {E(bounds), FAULT, BR, NONE, BOTH, KCODE, (word)bound_pair, 0, 0},
    {E(undefined), FAULT, UD, NONE, BOTH, KCODE, 0, 0, 0},
    {E(syscall_code), FAULT, UD, NONE, BOTH, KCODE, 0, 0, 1},  // of Intel's processors
    {E(x87), FAULT, NM, NONE, BOTH, KCODE, 0, 0, 0},
    {E(int80), TRAP, 0x80, NONE, BOTH, KCODE, 0, 0, 0},
    {E(int80), FAULT, TS, TSS_SELECTOR, BOTH, KCODE, 0, 0,
     0},  // the IST entry is beyond the limit of the TSS
    {E(int41), FAULT, GP, 0x41 * 8 + 2, RING3, KCODE, 0, 0, 1},
    {E(int42), FAULT, GP, 0x42 * 8 + 2, BOTH, KCODE, 0, 0, 1},  // a task gate
    {E(load_es), FAULT, NP, FREE_SELECTOR, BOTH, FREE_SELECTOR, FREE_SELECTOR, 0, 0},
    {E(load_es), FAULT, NP, LDT_SELECTOR, BOTH, KCODE, LDT_SELECTOR | 3, 0, 0},
    {E(load_fs), FAULT, NP, LDT_SELECTOR, BOTH, KCODE, LDT_SELECTOR | 3, 0, 0},
    {E(load_ss), FAULT, SS, FREE_SELECTOR, RING0, FREE_SELECTOR, FREE_SELECTOR, 0, 0},
    {E(load_ss), FAULT, SS, FREE_SELECTOR, RING3, FREE_SELECTOR, FREE_SELECTOR | 3, 0, 0},
    {E(load_es), FAULT, GP, KDATA, RING3, KDATA, KDATA, 0, 0},
    {E(load_es), FAULT, GP, 0xfff8, BOTH, KCODE, 0xfff8, 0, 0},
    {E(far_call), FAULT, GP, FREE_SELECTOR, BOTH, FREE_SELECTOR, 0, 0, 0},
    {E(far_jump), FAULT, GP, TSS_SELECTOR, BOTH, TSS_SELECTOR, (word)&far_pointer, 0, 0},
    {E(halt), FAULT, GP, 0, RING3, KCODE, 0, 0, 0},
    {E(unmapped_read), FAULT, PF, 0, BOTH, KCODE, 0, 0, 0},
    {E(unmapped_write), FAULT, PF, PF_W, BOTH, KCODE, 0, 0, 0},
    {E(unmapped_jump), ELSEWHERE, PF, PF_I, BOTH, KCODE, 0, 0, 0},
    {E(x87_error), FAULT, MF, NONE, BOTH, KCODE, (word)&unmasked_x87, 0, 0},
    {E(misaligned), FAULT, AC, 0, RING3, KCODE, (word)bound_pair, FL_AC, 1},
    {E(sse_error), FAULT, XM, NONE, BOTH, KCODE, (word)&unmasked_sse, 0, 1},
    {E(spin), ELSEWHERE, 0x60, NONE, BOTH, KCODE, 0, FL_IF, 0},
    {E(input), FAULT, GP, 0, RING3, KCODE, 0, 0, 0},
    {E(input), ELSEWHERE, BP, NONE, RING3, KCODE, 0, 0, 0},  // the I/O bitmap allows it
    {E(segments), ELSEWHERE, BP, NONE, BOTH, UDATA, UDATA, 0, 0},
    {E(segments), ELSEWHERE, BP, NONE, BOTH, KCODE, LDT_SELECTOR | 3, 0, 0},
};

static struct Context c;

// Writes tables such that what the event needs spans the boundaries.
static void build_tables(const struct Event* e, int ist) {
  // Of the two gates that INT reads, the one that refuses it.
  const int refuses = e->vector == GP && (e->error & 2);
  for (int v = 0; v < 256; v++) idt_low[16 * v + 4] = v == e->vector ? ist : 0;
  if (e->vector == TS) idt_low[16 * 0x80 + 4] = 1;
  use_idt(refuses ? e->error >> 3 : e->vector);
  use_gdt(e->cross);
  const u64 absent = gdt[UDATA / 8] & ~(1ull << 47);
  use_ldt(e->error == LDT_SELECTOR ? absent : gdt[UDATA / 8]);
  task.iomap[16] = e->vector == GP ? 0xff : 0;
  if (e->code[0] == input)
    use_tss(sizeof task - 1, 104 + 17);
  else if (e->vector == TS)
    use_tss(IST1 - 1, RSP0 + 4);
  else
    use_tss(SMALL_TSS, (ist ? IST1 : RSP0) + 4);
  // The LDT is loaded: its descriptor may make room for one of data, present or not.
  live_gdt[FREE_SELECTOR / 8] = e->vector == GP ? gdt[UDATA / 8] : absent;
  if (e->rings == RING0) live_gdt[FREE_SELECTOR / 8] &= ~(3ull << 45);
  live_gdt[FREE_SELECTOR / 8 + 1] = 0;
}

static void build_context(const struct Event* e, int user, int own_cool) {
  c = user ? user_context(e->code[own_cool]) : kernel_context(e->code[own_cool]);
  c.cs = user ? UCODE32 : KCODE32;
  c.flags |= e->flags;
  c.si = (word)entry_list;
  c.di = user && e->di >= 0x100000 ? e->di + USER_ALIAS : e->di;
  write_cr0((read_cr0() & ~8ul) | (e->vector == NM ? 8 : 0) | (1 << 18));
  write_dr0(c.di);
  write_dr7(e->code[0] == watched ? 0xf0001 : 0);
  if (e->code[0] == spin) LAPIC(LAPIC_INITIAL) = 20000;
}

static void check(const struct Event* e, int user, int ist, int own_cool) {
  static const struct {
    char* code;
    u64 cr2;
  } faults[] = {{unmapped_read, 0x3fe00010}, {unmapped_write, 0x3fe00020}, {unmapped_jump, 0x3fe00030}};
  const u64 alias = user ? USER_ALIAS : 0;
  const word sp = c.sp;
  EXPECT_EQ(run(&c), e->vector);
  if (e->code[0] == spin) LAPIC(LAPIC_EOI) = 0;
  const u64 error = (e->error == NONE ? 0 : e->error) | (user && e->vector == PF ? PF_U : 0);
  EXPECT_EQ(c.error, error);
  EXPECT_EQ(c.cs, user ? UCODE32 : KCODE32);
  EXPECT_EQ(c.ss, user ? UDATA : KDATA);
  EXPECT_EQ(c.sp, sp - (e->code[0] == load_fs ? 4 : 0));
  if (e->where == FAULT) EXPECT_EQ(c.ip, (word)e->at[own_cool] + alias);
  if (e->where == TRAP) EXPECT_EQ(c.ip, (word)e->end[own_cool] + alias);
  for (unsigned i = 0; i < 3; i++)
    if (e->code[0] == faults[i].code) EXPECT_EQ(c.cr2, faults[i].cr2);
  if (e->code[0] == segments) {  // present, DPL 3, writable; 4 GiB
    EXPECT_EQ(c.ax, 0xc0f300);
    EXPECT_EQ(c.cx, 0xffffffff);
    EXPECT_EQ(c.bx & 0xffff, 0x0101);
    EXPECT_EQ(c.dx & 0xffff, 0x0101);
  }
  // The frame is where it belongs: two values beyond the boundary, the others below.
  if (!user && !ist) return;
  u64* top = beyond(STACK);
  EXPECT_EQ(top[1], c.ss);
  EXPECT_EQ(top[0], c.sp);
  EXPECT_EQ(top[-1], c.flags);
  EXPECT_EQ(top[-2], c.cs);
  EXPECT_EQ(top[-3], c.ip);
  if (e->error != NONE) EXPECT_EQ(top[-4], error);
  memset(top - 4, 0, 48);
}

static void try_event(const struct Event* e, int user, int ist, int cold) {
  const int before = failures, own_cool = cold && !user;
  build_tables(e, ist);
  build_context(e, user, own_cool);
  if (cold) cool();
  check(e, user, ist, own_cool);
  if (failures == before) return;
  put_string(e->name);
  put_string(user ? " in ring 3" : " in ring 0");
  put_string(ist ? ", IST" : "");
  put_string(cold ? ", cold\n" : "\n");
}

static void every_event(void) {
  for (unsigned i = 0; i < sizeof events / sizeof *events; i++)
    for (int way = 0; way < 8; way++) {
      const struct Event* e = &events[i];
      const int user = way & 1, ist = way >> 1 & 1, cold = !(way & 4);
      if (!(e->rings & (user ? RING3 : RING0)) || (ist && e->vector == TS) || (on_qemu && e->not_qemu))
        continue;
      try_event(e, user, ist, cold);
    }
  write_dr7(0);
}

static void system_calls(void) {
  const struct Event plain = {E(breakpoint), TRAP, BP, NONE, BOTH, KCODE, 0, 0, 0};
  const u64 target = (u64)entry64 + HIGH_TEXT;
  for (int cold = 1; cold >= 0; cold--) {
    build_tables(&plain, 0);
    wrmsr(0x174, KCODE);
    wrmsr(0x175, BOUNDARY(STACK) + 4);  // the first push spans the boundary
    wrmsr(0x176, target);
    c = user_context(sysenter32);
    c.cs = UCODE32;
    c.ax = 0x11223344;
    if (cold) cool();
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(c.cs, KCODE);
    EXPECT_EQ(c.sp, BOUNDARY(STACK) - 4);
    EXPECT_EQ(c.ip, target + 2);
    EXPECT_EQ(*(u64*)((u8*)beyond(STACK) - 4), 0x11223344);

    // Through a call gate of the GDT: to ring 0 with SS, RSP, CS and RIP on the stack of the TSS; in ring 0
    // with CS and RIP on the stack in use.
    for (int user = 0; user < 2; user++) {
      const int own_cool = cold && !user;
      build_tables(&plain, 0);
      use_gdt(FREE_SELECTOR);
      live_gdt[FREE_SELECTOR / 8] =
          (target & 0xffff) | KCODE << 16 | 0xecull << 40 | (target >> 16 & 0xffff) << 48;
      live_gdt[FREE_SELECTOR / 8 + 1] = target >> 32;
      use_tss(SMALL_TSS, RSP0 + 4);
      c = user ? user_context(far_call) : kernel_context(own_cool ? far_call_cool : far_call);
      c.cs = user ? UCODE32 : KCODE32;
      c.si = (word)entry_list;
      const word sp = c.sp;
      if (cold) cool();
      EXPECT_EQ(run(&c), BP);
      EXPECT_EQ(c.cs, KCODE);
      EXPECT_EQ(c.ip, target + 2);
      EXPECT_EQ(c.sp, (user ? BOUNDARY(STACK) + 16 - 32 : sp - 16) - 8);
      const u64* frame = user ? (u64*)beyond(STACK) - 2 : (u64*)(sp - 16);
      EXPECT_EQ(frame[0], (word)(own_cool ? far_call_cool_end : far_call_end) + (user ? USER_ALIAS : 0));
      EXPECT_EQ(frame[1], user ? UCODE32 : KCODE32);
      if (user) EXPECT_EQ(frame[2], sp);
      if (user) EXPECT_EQ(frame[3], UDATA);
    }
  }
}

int main(void) {
  struct TablePointer p;
  asm volatile("sidt %0" : "=m"(p));
  idt_low = (u8*)p.base;
  extern char image_end[], trap_stubs[];
  for (u64 at = 0x100000; at < (u64)image_end; at += 4096) map(HIGH_TEXT + at, (void*)at, PTE_P | PTE_W);
  for (int v = 0; v < 256; v++)
    set_gate(v, (void*)((u64)trap_stubs + 16 * v + HIGH_TEXT), KCODE, 14,
             v == BP || v == OF || v == 0x80 || v == 0x42 ? 3 : 0, 0);
  idt_low[16 * 0x42 + 5] = 0xe5;  // a task gate
  for (int i = 0; i < ENTRIES; i++) {
    const u64 offset = i % 4 * 4096;
    entries[i] = map(BOUNDARY(i / 4) - 2 * 4096 + offset, arenas[i / 4] + offset, PTE_P | PTE_W);
    entry_list[i] = (u32)(word)entries[i];
  }
  *(u64*)(task.bytes + RSP0) = *(u64*)(task.bytes + IST1) = BOUNDARY(STACK) + 16;
  *(u16*)(task.bytes + IOMAP) = 104;
  memset(task.iomap, 0xff, sizeof task.iomap);
  extern u64 boot_pd[];
  boot_pd[0x3fe00000 >> 21] = boot_pd[512 * 2 + (0x3fe00000 >> 21)] = 0;
  invlpg((void*)0x3fe00000);
  LAPIC(LAPIC_SVR) = 0x1ff;
  LAPIC(LAPIC_DIVIDE) = 0xb;
  LAPIC(LAPIC_LVT_TIMER) = 0x60;

  SUBJECT("events");
  every_event();
  SUBJECT("system calls");
  system_calls();
  if (cpuid_bit(7, 0, 1, 20)) {
    SUBJECT("the same with SMAP");
    write_cr4(read_cr4() | 1ul << 21);
    every_event();
    system_calls();
  }
  return 0;
}
