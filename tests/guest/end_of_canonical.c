// Jumps, loops and calls out of the canonical addresses: the fault is the instruction's, which has changed
// nothing, whatever the code cache holds and however often the loop has run. Going on behind the last address
// is no jump: the instruction completes, and the next one cannot be fetched.
#include "paging.h"

#define LAST_PAGE 0x7ffffffff000ul
#define BEHIND 0x800000000000ul

static u8 page[4096] __attribute__((aligned(4096)));
static u8 scratch[4096] __attribute__((aligned(4096)));
static struct Context c;

static int start(u64 at, u64 cx, u64 flags) {
  c = kernel_context((void*)at);
  c.cx = cx;
  c.flags |= flags;
  return run(&c);
}

// Puts code at the end of the last page; its address.
static u64 put(const void* code, unsigned size) {
  memcpy(page + 4096 - size, code, size);
  return LAST_PAGE + 4096 - size;
}
#define PUT(...) put((u8[]){__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__}))

static void loops_off_the_end(void) {
  // dec rcx; nops; jnz back to the start
  const u64 at = PUT(0x48, 0xff, 0xc9, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x66, 0x90, 0x75, 0xf0);
  for (u64 turns = 1; turns <= 64; turns++) {
    EXPECT_EQ(start(at, turns, 0), GP);
    EXPECT_HW_EQ(c.ip, BEHIND);
    EXPECT_HW_EQ(c.cx, 0);
  }
}

static void loop_instructions(void) {
  static const struct {
    u8 opcode;
    u64 cx, flags;
  } taken[] = {{0xe2, 5, 0}, {0xe1, 5, FL_ZF}, {0xe0, 5, 0}, {0xe3, 0, 0}},
    not_taken[] = {{0xe2, 1, 0}, {0xe1, 5, 0}, {0xe0, 5, FL_ZF}, {0xe3, 7, 0}};
  for (int pass = 0; pass < 20; pass++) {
    for (unsigned i = 0; i < sizeof taken / sizeof taken[0]; i++) {
      const u64 at = PUT(taken[i].opcode, 0x10, 0xcc, 0xcc);
      EXPECT_EQ(start(at, taken[i].cx, taken[i].flags), GP);
      EXPECT_HW_EQ(c.ip, at);
      EXPECT_HW_EQ(c.cx, taken[i].cx);
      EXPECT_EQ(start(at, not_taken[i].cx, not_taken[i].flags), BP);
      EXPECT_HW_EQ(c.ip, at + 3);
    }
  }
}

static void jumps(void) {
  for (int pass = 0; pass < 20; pass++) {
    const u64 jcc = PUT(0x74, 0x10, 0xcc, 0xcc);
    EXPECT_EQ(start(jcc, 0, FL_ZF), GP);
    EXPECT_HW_EQ(c.ip, jcc);
    EXPECT_EQ(start(jcc, 0, 0), BP);
    const u64 jmp = PUT(0xeb, 0x10, 0xcc, 0xcc);
    EXPECT_EQ(start(jmp, 0, 0), GP);
    EXPECT_HW_EQ(c.ip, jmp);
  }
}

// A CALL pushes its return address over memory that holds data (where = 0), or code that has just run.
static void call(u64 at, int executed, u64 target) {
  u8* const where = scratch + (executed ? 0x800 : 0x100);
  where[-8] = 0x90;
  where[-7] = 0xcc;
  if (executed) EXPECT_EQ(start((u64)where - 8, 0, 0), BP);
  c = kernel_context((void*)at);
  c.ax = target;
  c.bx = (u64)&target;
  c.sp = (u64)where;
  EXPECT_EQ(run(&c), GP);
  EXPECT_HW_EQ(c.ip, at);
  EXPECT_HW_EQ(c.sp, (u64)where);
}

static void calls(void) {
  for (int pass = 0; pass < 40; pass++) {
    for (int executed = 0; executed <= 1; executed++) {
      call(PUT(0xff, 0xd0, 0xcc), executed, 0x900000000000);       // call rax
      call(PUT(0xff, 0x13, 0xcc), executed, 0x900000000000);       // call [rbx]
      call(PUT(0xe8, 0x00, 0x10, 0x00, 0x00, 0xcc), executed, 0);  // call rel32
      call(PUT(0xff, 0xd0, 0xcc), executed, 0xffff7fffffffffff);
    }
  }
}

int main(void) {
  map(LAST_PAGE, page, PTE_P | PTE_W);
  loops_off_the_end();
  loop_instructions();
  jumps();
  calls();
  return 0;
}
