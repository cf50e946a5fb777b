// What leaving translated code costs: a loop full of one thing, which the command line names. bench/exits.py times it.
#include "second_cpu.h"

enum { WAKE = 0x52, ANSWER = 0x53 };


// The command line's last word, from the Multiboot information.
extern u32 boot_info;
static const char* asked_for(void) {
  const char* const line = (const char*)(word)((const u32*)(word)boot_info)[4];
  const char* last = line;
  for (const char* at = line; *at; ++at)
    if (*at == ' ') last = at + 1;
  return last;
}
static int same(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}
#define MEASURE(name, times, statement)                              \
  do {                                                               \
    if (!same(asked_for(), #name)) break;                            \
    for (u64 i = 0; i < (times); ++i) { statement; }                 \
    put_decimal(times), put_string(" times\n");                      \
  } while (0)

static volatile u64 sink, asked, given, busy, stop;
static volatile u32 answered;
static u64 words[4096];

// Work in which nothing but turns leaves the code: lookups, jumps and calls all over.
static __attribute__((noinline)) u64 mix(u64 x) { return x * 0x9e3779b97f4a7c15u ^ x >> 29; }
static u64 work(u64 rounds) {
  u64 sum = 1;
  for (u64 i = 0; i < rounds; ++i) {
    words[(sum ^ i) & 4095] += i;
    if (words[i & 4095] & 1) sum = mix(sum + i);
    if (sum & 2) sum += words[sum >> 52];
  }
  return sum;
}

static void on_wake(struct Context* f) {  // on the second vCPU
  (void)f;
  LAPIC(LAPIC_EOI) = 0;
  LAPIC(LAPIC_ICR_HIGH) = 0;
  LAPIC(LAPIC_ICR) = ICR_ASSERT | ANSWER;
}
static void on_answer(struct Context* f) {
  (void)f;
  answered++;
  LAPIC(LAPIC_EOI) = 0;
}

void ap_main(void) {
  LAPIC(LAPIC_SVR) = 0x1ff;
  while (!stop) {
    if (busy) {
      work(100);
    } else if (asked == given) {
      pause();
    } else {
      given++;
    }
  }
  for (;;) sti_hlt_cli();
}

static int has_second_cpu(void) {
  start_second_cpu();
  asked = 1;
  for (int i = 0; i < 200000 && given != asked; i++) pause();
  return given == asked;
}

int main(void) {
  pic_init();
  LAPIC(LAPIC_SVR) = 0x1ff;
  hooks[WAKE] = on_wake;
  hooks[ANSWER] = on_answer;
  const int two = has_second_cpu();
  busy = same(asked_for(), "work");
  MEASURE(nothing, 1, );
  MEASURE(work, 20000, sink += work(1000));
  MEASURE(in, 1000000, sink += inb(0x3fd));
  MEASURE(in_nobody, 1000000, sink += inb(0x3e8));
  MEASURE(out, 1000000, outb(0x80, 1));
  MEASURE(cr8_read, 1000000, sink += read_cr8());
  MEASURE(cr8_write, 1000000, write_cr8(i & 1));
  MEASURE(mmio_lapic, 1000000, sink += LAPIC(LAPIC_CURRENT));
  MEASURE(mmio_lapic_write, 1000000, LAPIC(LAPIC_TPR) = 0);
  MEASURE(mmio_ioapic, 1000000, sink += *(volatile u32*)0xfec00010ul);
  MEASURE(pause, 1000000, pause());
  if (two) MEASURE(pause_handover, 100000, asked++; while (given != asked) pause());
  stop = 1;
  if (two) {
    MEASURE(wake_up, 100000, const u32 before = answered; LAPIC(LAPIC_ICR_HIGH) = 1 << 24;
            LAPIC(LAPIC_ICR) = ICR_ASSERT | WAKE; while (answered == before) sti_hlt_cli());
  }
  wrmsr(0x1b, rdmsr(0x1b) | 1 << 10);
  MEASURE(rdmsr_tpr, 1000000, sink += rdmsr(0x808));
  MEASURE(rdmsr_count, 1000000, sink += rdmsr(0x839));
  MEASURE(wrmsr_tpr, 1000000, wrmsr(0x808, 0));
  return 0;
}
