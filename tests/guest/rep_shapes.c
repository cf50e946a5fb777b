// String instructions in every place that a block has for them: code is drawn by lot and executed while
// timers interrupt it. Before and behind each string instruction are conditional jumps, taken or not, other
// accesses, ends of pages and small loops; operands lie in pages that are mapped when they fault, in code
// ahead, in the local APIC and behind ports. Each piece of code does the same with interrupts as without, on
// every vCPU that there is. Where a turn or a timer's moment falls is for those who replay it to compare.
#include "paging.h"
#include "second_cpu.h"

enum {
  kCpus = 8,
  kRounds = 40,  // pieces of code
  kPasses = 10,  // of each; the first without interrupts
  kTimes = 4,    // that a pass executes it, cold at first
  kItems = 30,   // in a piece
  kPages = 4,    // of data
  kCodeRoom = 3 * 4096,
  TIMER = 0x60,
  LVT_TSC_DEADLINE = 2 << 17,
  MSR_TSC_DEADLINE = 0x6e0,
};

struct Cpu {
  u8* at;     // where the next instruction goes
  u8* patch;  // a jump's distance that is still open, over `skip` more items
  int skip;
  u64 random, timer_random;
  u64* leaf[kPages];  // the data pages' entries
  volatile int state;
  volatile u32 ticks;
  u8 code[kCodeRoom];
  u8 stack[8192] __attribute__((aligned(16)));
};
enum { ABSENT, UP, GO, DONE };
static struct Cpu cpus[kCpus];
static volatile u64 shared;
static u8 data_pages[kCpus * kPages][4096] __attribute__((aligned(4096)));

// What a piece of code leaves behind.
struct Outcome {
  u64 ax, cx, dx, si, di, flags, data;
};

static u64 draw_from(u64* random, u64 below) {
  *random ^= *random << 13;
  *random ^= *random >> 7;
  *random ^= *random << 17;
  return (*random >> 11) % below;
}
static u64 draw(struct Cpu* c, u64 below) { return draw_from(&c->random, below); }
static unsigned self(void) { return LAPIC(LAPIC_ID) >> 24; }
static u64 data_of(struct Cpu* c) { return TEST_VA + (u64)(c - cpus) * (kPages + 1) * 4096; }

// The next timer comes some hundred to some thousand steps from now.
static void arm(struct Cpu* c) {
  const u64 reach = 200 << draw_from(&c->timer_random, 5);
  wrmsr(MSR_TSC_DEADLINE, rdtsc() + 80 + draw_from(&c->timer_random, reach));
}
static void on_timer(struct Context* f) {
  (void)f;
  struct Cpu* c = &cpus[self()];
  c->ticks++;
  LAPIC(LAPIC_EOI) = 0;
  arm(c);
}
static void on_page_fault(struct Context* f) {
  struct Cpu* c = &cpus[self()];
  const u64 page = (read_cr2() - data_of(c)) / 4096;
  if (page >= kPages || (f->error & PF_P)) {
    EXPECT_EQ(read_cr2(), 0);
    finish(0);
  }
  *c->leaf[page] |= PTE_P;
}

static void bytes(struct Cpu* c, const char* text, int count) {
  while (count--) *c->at++ = *text++;
}
#define BYTES(c, text) bytes(c, text, sizeof text - 1)
static void number(struct Cpu* c, u64 value, int count) {
  for (; count--; value >>= 8) *c->at++ = value;
}
static void load_si(struct Cpu* c, u64 v) { BYTES(c, "\x48\xbe"), number(c, v, 8); }
static void load_di(struct Cpu* c, u64 v) { BYTES(c, "\x48\xbf"), number(c, v, 8); }
static void load_cx(struct Cpu* c, u32 v) { BYTES(c, "\xb9"), number(c, v, 4); }
static void load_dx(struct Cpu* c, u32 v) { BYTES(c, "\xba"), number(c, v, 4); }

// Somewhere in the first part of the data, every other time right before a page's end.
static u64 place(struct Cpu* c) {
  return data_of(c) + (draw(c, 2) ? draw(c, 6000) : 4096 * draw(c, 2) + 4096 - draw(c, 40));
}

static void memory_string(struct Cpu* c) {
  static const char ops[] = "\xa4\xa5\xa4\xa5\xaa\xab\xaa\xab\xac\xad\xa6\xa7\xae\xaf";
  const u8 op = ops[draw(c, sizeof ops - 1)];
  const int wide = (op & 1) ? draw(c, 3) : 0;  // 32, 64, 16 bits
  const int backwards = draw(c, 10) == 0;
  const u64 from = place(c), to = draw(c, 4) ? place(c) : from + 1 + draw(c, 9);  // onto itself, shifted
  load_si(c, from + backwards * 5000);
  load_di(c, to + backwards * 5000);
  load_cx(c, draw(c, 3) ? draw(c, 12) : draw(c, wide == 1 ? 600 : 1100));
  if (backwards) BYTES(c, "\xfd");
  if (wide == 2) BYTES(c, "\x66");
  if (draw(c, 8)) *c->at++ = (op & 0xfe) == 0xae && draw(c, 2) ? 0xf2 : 0xf3;
  if (wide == 1) BYTES(c, "\x48");
  *c->at++ = op;
  if (backwards) BYTES(c, "\xfc");
}
static void port_string(struct Cpu* c) {
  const int in = draw(c, 2);
  load_dx(c, 0x80);
  load_cx(c, draw(c, 5));
  in ? load_di(c, place(c)) : load_si(c, place(c));
  BYTES(c, "\xf3"), *c->at++ = in ? 0x6c : 0x6e;
}
static void device_string(struct Cpu* c) {
  if (draw(c, 2)) {  // from the APIC's identity, and on into what is reserved
    load_si(c, (u64)&LAPIC(LAPIC_ID)), load_di(c, place(c));
    load_cx(c, draw(c, 3));
    BYTES(c, "\xf3\xa5");
  } else {  // to the task priority, which stays 0
    BYTES(c, "\x31\xc0");
    load_di(c, (u64)&LAPIC(LAPIC_TPR)), load_cx(c, 1);
    BYTES(c, "\xf3\xab");
  }
}
// Writes NOPs, CLCs or STCs over some that follow within 64 bytes, often within the same block.
static void code_string(struct Cpu* c) {
  BYTES(c, "\xb0"), *c->at++ = "\x90\xf8\xf9"[draw(c, 3)];
  const u32 count = 1 + draw(c, 8);
  load_cx(c, count);
  const u32 gap = draw(c, 20);
  load_di(c, (u64)c->at + 10 + 2 + gap);
  BYTES(c, "\xf3\xaa");
  for (u32 i = 0; i < gap + count; i++) BYTES(c, "\x90");
}
static void jump_over(struct Cpu* c) {
  if (c->patch) return;
  if (draw(c, 2)) BYTES(c, "\x85\xc9");                           // test %ecx, %ecx: zero behind most REPs
  *c->at++ = 0x70 + draw(c, 16), c->patch = c->at, *c->at++ = 0;  // jcc
  c->skip = 1 + draw(c, 3);
}
static void filler(struct Cpu* c) {
  switch (draw(c, 6)) {
    case 0:
      return BYTES(c, "\x48\xff\xc0");  // inc %rax
    case 1:
      return BYTES(c, "\x4d\x89\xc1\x49\x83\xc1\x07");  // mov %r8, %r9; add $7, %r9
    case 2:  // mov $place, %rbx; add %rax, 8(%rbx); add 16(%rbx), %rax
      BYTES(c, "\x48\xbb"), number(c, place(c), 8);
      return BYTES(c, "\x48\x01\x43\x08\x48\x03\x43\x10");
    case 3:
      return BYTES(c, "\x50\x5a");  // push %rax; pop %rdx
    case 4:                         // lock incq shared; test %rax, %rax, since the flags are everybody's
      BYTES(c, "\xf0\x48\xff\x04\x25"), number(c, (u64)&shared, 4);
      return BYTES(c, "\x48\x85\xc0");
    default:
      return BYTES(c, "\x90\x90");
  }
}
static void loop(struct Cpu* c) {
  if (c->patch) return;
  BYTES(c, "\xbd"), number(c, 2 + draw(c, 30), 4);  // mov $N, %ebp
  u8* const top = c->at;
  for (u64 n = 1 + draw(c, 3); n--;) draw(c, 3) ? filler(c) : memory_string(c);
  BYTES(c, "\x48\xff\xcd\x75");  // dec %rbp; jnz
  const word distance = c->at + 1 - top;
  *c->at++ = -distance;
}
static void item(struct Cpu* c) {
  const u64 lot = draw(c, 20);
  if (lot < 7)
    memory_string(c);
  else if (lot < 11)
    jump_over(c);
  else if (lot < 16)
    filler(c);
  else if (lot == 16)
    port_string(c);
  else if (lot == 17)
    device_string(c);
  else if (lot == 18)
    code_string(c);
  else
    loop(c);
}

static u8* make_code(struct Cpu* c) {
  u8* const start = c->at = c->code + draw(c, 4096);
  c->patch = 0;
  for (int i = 0; i < kItems; i++) {
    item(c);
    if (c->patch && c->skip-- == 0) {
      const word distance = c->at - (c->patch + 1);
      *c->patch = distance < 128 ? distance : 0;
      c->patch = 0;
    }
  }
  if (c->patch) *c->patch = 0;
  BYTES(c, "\xc3");
  return start;
}

// Interrupts are taken only here.
static void execute(struct Cpu* c, u8* code, u64 interrupts, struct Outcome* o) {
  o->ax = o->cx = o->dx = 0;
  o->si = o->di = data_of(c);
  asm volatile(
      "mov %[code], %%r15; mov %[interrupts], %%r14; push %%rbx; push %%rbp; test %%r14, %%r14; jz 1f; sti; "
      "nop;"
      "1: xor %%ebp, %%ebp; xor %%r8d, %%r8d; xor %%ebx, %%ebx; call *%%r15; pushfq; cli; cld;"
      "pop %%r14; pop %%rbp; pop %%rbx; mov %%r14, %[flags]"
      : "+a"(o->ax), "+c"(o->cx), "+d"(o->dx), "+S"(o->si), "+D"(o->di), [flags] "=&r"(o->flags)
      : [code] "r"(code), [interrupts] "r"(interrupts)
      : "r8", "r9", "r14", "r15", "memory", "cc");
  o->flags &= FL_CF | FL_ZF;
}

static void reset_data(struct Cpu* c) {
  for (int i = 0; i < kPages; i++) {
    void* to = data_pages[(c - cpus) * kPages + i];
    u64 count = 512;
    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0x0101010101010101 * (7 + i / 2)) : "memory");
    if (draw(c, 2)) {
      *c->leaf[i] &= ~(u64)PTE_P;
      invlpg((void*)(data_of(c) + i * 4096));
    }
  }
}
static u64 hash_of_data(struct Cpu* c) {
  u64 hash = 0;
  const u64* words = (u64*)data_pages[(c - cpus) * kPages];
  for (int i = 0; i < kPages * 512; i++) hash = hash * 31 + words[i];
  return hash;
}

static void exercise(struct Cpu* c) {
  for (int round = 0; round < kRounds; round++) {
    u8* const code = make_code(c);
    struct Outcome first, later;
    for (int pass = 0; pass < kPasses; pass++) {
      struct Outcome* const o = pass ? &later : &first;
      reset_data(c);
      if (pass == 1) arm(c);
      for (int time = 0; time < kTimes; time++) execute(c, code, pass, o);
      const int look = pass == 0 || pass == kPasses - 1;
      o->data = look ? hash_of_data(c) : first.data;
      if (pass == 0) continue;
      EXPECT_EQ(o->ax, first.ax);
      EXPECT_EQ(o->cx, first.cx);
      EXPECT_EQ(o->dx, first.dx);
      EXPECT_EQ(o->si, first.si);
      EXPECT_EQ(o->di, first.di);
      EXPECT_EQ(o->flags, first.flags);
      EXPECT_EQ(o->data, first.data);
    }
  }
  EXPECT(c->ticks > kRounds);
}

static void prepare(struct Cpu* c) {
  c->random = 0x9e3779b97f4a7c15 * (u64)(1 + c - cpus);
  c->timer_random = ~c->random;
  for (int i = 0; i < kPages; i++)
    c->leaf[i] = map(data_of(c) + i * 4096, data_pages[(c - cpus) * kPages + i], PTE_P | PTE_W);
}
static void enable_timer(void) {
  LAPIC(LAPIC_SVR) = 0x1ff;
  LAPIC(LAPIC_LVT_TIMER) = LVT_TSC_DEADLINE | TIMER;
}

__attribute__((used, noreturn)) static void on_own_stack(struct Cpu* c) {
  enable_timer();
  c->state = UP;
  while (c->state != GO) pause();
  exercise(c);
  c->state = DONE;
  for (;;) asm volatile("cli; hlt");
}
void ap_main(void) {
  struct Cpu* const c = &cpus[self()];
  asm volatile("mov %0, %%rsp; call on_own_stack" ::"r"(c->stack + sizeof c->stack), "D"(c));
}
static void start(unsigned id) {
  LAPIC(LAPIC_ICR_HIGH) = id << 24;
  LAPIC(LAPIC_ICR) = ICR_INIT | ICR_ASSERT;
  for (int i = 0; i < 1000; i++) pause();
  LAPIC(LAPIC_ICR) = ICR_SIPI | ICR_ASSERT | 0x08;
  while (cpus[id].state != UP) pause();
}
static unsigned cpu_count(void) {
  u32 r[4];
  cpuid(0xb, 1, r);
  return r[1] < 1 ? 1 : r[1] > kCpus ? kCpus : r[1];
}

int main(void) {
  hooks[TIMER] = on_timer;
  hooks[PF] = on_page_fault;
  prepare_second_cpu();
  enable_timer();
  const unsigned count = cpu_count();
  for (unsigned i = 0; i < count; i++) prepare(&cpus[i]);
  for (unsigned i = 1; i < count; i++) start(i);
  for (unsigned i = 1; i < count; i++) cpus[i].state = GO;
  exercise(&cpus[0]);
  for (unsigned i = 1; i < count; i++)
    while (cpus[i].state != DONE) pause();
  return 0;
}
