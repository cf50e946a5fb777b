// The guest control device: from ring 3 by CPUID, by REP OUTSB, and its end of the machine.
#include "runtime.h"

enum { LEAF = 0x4f646a61, PORT = 0x700 };
static struct Context c;

CODE(user_call, "cpuid");
static const char from_user[] = "mark from ring 3";
static const char from_port[] = "mark from the port\nmark another\n";

static void call(u64 address, u64 length) {
  c = user_context(user_call);
  c.ax = LEAF;
  c.cx = length;
  c.dx = address;
}
static void expect_answer(int taken) {
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, taken);
  EXPECT_EQ(c.bx, 0x616a6544);
  EXPECT_EQ(c.cx, 0x67204d56);
  EXPECT_EQ(c.dx, 0x74736575);
}

int main(void) {
  SUBJECT("hypercall");
  call(0, 0);
  expect_answer(1);
  call((u64)from_user + USER_ALIAS, sizeof from_user - 1);
  expect_answer(1);
  call((u64)from_user + USER_ALIAS, 256);
  expect_answer(0);
  call((u64)from_user, sizeof from_user - 1);  // a supervisor's page
  EXPECT_EQ(run(&c), PF);
  EXPECT_EQ(c.cr2, (u64)from_user);
  EXPECT_EQ(c.ax, LEAF);
  call(0x800000000000, 2);
  EXPECT_EQ(run(&c), GP);
  u32 r[4];
  cpuid(LEAF + 0x100, 0, r);
  EXPECT_EQ(r[0] | r[1] | r[2] | r[3], 0);

  SUBJECT("port");
  EXPECT_EQ(inl(PORT + 0xfc), 0xdededede);
  const char* text = from_port;
  u64 count = sizeof from_port - 1;
  asm volatile("rep outsb" : "+S"(text), "+c"(count) : "d"(PORT) : "memory");
  if (failures) return 0;
  put_string("exit\n");
  const char end[] = "exit 42";
  asm volatile("cpuid" : : "a"(LEAF), "c"(sizeof end - 1), "d"(end) : "rbx", "memory");
  EXPECT(!"still there");
  return 0;
}
