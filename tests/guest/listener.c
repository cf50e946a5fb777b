// Waits for lines on COM1, asleep, and does what they say: for tests that need a guest that is led step by
// step.
//
//   work      3,000,000 turns of a loop that writes to 64 pages in turn
//   flood     the mark "flood" 20,000 times; then how many of them were taken
//   talk      128 KiB of text
//   end       leaves
//
// Any other line goes to the guest control device as it is.
#include "apic.h"

enum { LEAF = 0x4f646a61, COM1 = 0x3f8, COM1_IRQ = 4, TURNS = 3000000, PAGES = 64, MARKS = 20000 };
static u8 pages[PAGES][4096] __attribute__((aligned(4096)));
static volatile int received;

static void arrived(struct Context* f) {
  (void)f;
  received = 1;
  outb(0x20, 0x20);
}

static char next_char(void) {
  while (!(inb(COM1 + 5) & 1)) {
    received = 0;
    while (!received) sti_hlt_cli();
  }
  return inb(COM1);
}

static u32 call(const char* line, u32 length) {
  u32 taken = LEAF;
  asm volatile("cpuid" : "+a"(taken), "+c"(length), "+d"(line) : : "rbx", "memory");
  return taken;
}

static int same(const char* a, const char* b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

static void work(void) {
  for (u32 i = 0; i < TURNS; i++) pages[i / 256 % PAGES][i % 4096] += i;
}

static void flood(void) {
  u32 taken = 0;
  for (u32 i = 0; i < MARKS; i++) taken += call("mark flood", 10) == 1;
  put_string("taken ");
  put_decimal(taken);
  put_char('\n');
}

static void talk(void) {
  for (u32 i = 0; i < 2048; i++)
    put_string("a line of sixty-four characters, as are all that it has to say.\n");
}

int main(void) {
  pic_init();
  hooks[0x20 + COM1_IRQ] = arrived;
  outb(0x21, 0xff & ~(1 << COM1_IRQ));
  outb(COM1 + 2, 0);  // no FIFO
  outb(COM1 + 1, 1);  // an interrupt for each byte
  outb(COM1 + 4, 8);  // OUT2 lets it through
  put_string("ready\n");
  for (;;) {
    static char line[256];
    u32 length = 0;
    for (char c; (c = next_char()) != '\n';)
      if (length < sizeof line - 1) line[length++] = c;
    line[length] = 0;
    if (same(line, "end")) return 0;
    if (same(line, "work"))
      work();
    else if (same(line, "flood"))
      flood();
    else if (same(line, "talk"))
      talk();
    else
      call(line, length);
    put_string("done\n");
  }
}
