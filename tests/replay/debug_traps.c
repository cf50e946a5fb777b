// MOV SS from a watched word before instructions that enter the kernel, each under ptrace with and without
// single step: a program of no rights must get the traps of SDM vol. 3A 6.8.3, and the kernel survive them.
// Prints what differs, and "debug traps: N wrong" at the end.
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { B0 = 1, BS = 1 << 14, DR6_BITS = 0xe00f };

static volatile uint16_t stack_selector __attribute__((aligned(8)));

// Each begins with MOV SS, in `LENGTH` bytes, and ends with int3, whose trap ends the case.
#define CASE(name, before, instruction)                                                    \
  extern char name[], name##_next[];                                                       \
  asm(".text\n" #name ": " before "mov stack_selector(%rip), %ss; " instruction "; " #name \
      "_next: nop; "                                                                       \
      "nop; int3")
CASE(plain, "", "nop");
CASE(icebp, "", ".byte 0xf1");
CASE(two_icebp, "", ".byte 0xf1, 0xf1");
CASE(int3, "", "int3");
CASE(int4, "", "int $4");
CASE(int80, "mov $20, %eax; ", "int $0x80");
CASE(system_call, "mov $39, %eax; ", "syscall");
CASE(undefined, "", "ud2");
CASE(page_fault, "xor %edi, %edi; ", "mov (%rdi), %al");
CASE(read_debug_register, "", "mov %dr6, %rax");

static int wrong;

static long debug_register(pid_t child, int number) {
  return ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg[number]), 0);
}
static void set_debug_register(pid_t child, int number, long value) {
  if (ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[number]), value)) {
    perror("debug_traps: POKEUSER");
    wrong++;
  }
}

static pid_t stopped_child(const char* code, int watch) {
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  struct user_regs_struct registers;
  ptrace(PTRACE_GETREGS, child, 0, &registers);
  registers.rip = (long)code;
  registers.orig_rax = -1;
  ptrace(PTRACE_SETREGS, child, 0, &registers);
  if (watch) {
    set_debug_register(child, 0, (long)&stack_selector);
    set_debug_register(child, 7, 1 | 3 << 16 | 1 << 18);  // L0: two bytes, read or write
  }
  return child;
}

// Goes on until the case's int3 or a signal other than SIGTRAP; the stops, as "+offset:DR6" from `next`.
static void run_case(const char* name, const char* code, const char* next, int watch, int step,
                     const char* expected) {
  const pid_t child = stopped_child(code, watch);
  char stops[256] = "";
  for (int i = 0; i < 16; i++) {
    set_debug_register(child, 6, 0);
    ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, child, 0, 0);
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) break;
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    const int at = (int)((long)registers.rip - (long)next);
    char* end = stops + strlen(stops);
    if (WSTOPSIG(status) != SIGTRAP) {
      snprintf(end, 24, "signal %d", WSTOPSIG(status));
      break;
    }
    if (at == 3) break;
    // Steps before MOV SS are none of ours.
    if (at < -3) continue;
    snprintf(end, 24, "%+d:%lx ", at, debug_register(child, 6) & DR6_BITS);
  }
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  if (strcmp(stops, expected) == 0) return;
  wrong++;
  printf("%s watch=%d step=%d: %s, expected %s\n", name, watch, step, stops, expected);
}

// What comes without and with the watchpoint, then the same single-stepped.
static void run_four(const char* name, const char* code, const char* next, const char* const expected[4]) {
  for (int i = 0; i < 4; i++) run_case(name, code, next, i & 1, i >> 1, expected[i]);
}
#define RUN(name, ...) run_four(#name, name, name##_next, (const char* const[]){__VA_ARGS__})

int main(void) {
  uint16_t selector;
  asm("mov %%ss, %0" : "=r"(selector));
  stack_selector = selector;
  RUN(plain, "", "+0:1 ", "+0:4000 +1:4000 +2:4000 ", "+0:4001 +1:4000 +2:4000 ");
  RUN(icebp, "+0:0 ", "+0:0 ", "+0:0 +1:4000 +2:4000 ", "+0:0 +1:4000 +2:4000 ");
  RUN(two_icebp, "-1:0 +0:0 ", "-1:0 +0:0 ", "-1:0 +0:0 +1:4000 +2:4000 ", "-1:0 +0:0 +1:4000 +2:4000 ");
  // The watchpoint's trap comes in the kernel, which does not hand it on.
  RUN(int3, "+0:0 ", "+0:0 ", "+0:0 +1:4000 +2:4000 ", "+0:0 +1:4000 +2:4000 ");
  RUN(int4, "signal 11", "signal 11", "signal 11", "signal 11");
  RUN(int80, "", "", "+0:0 +1:4000 +2:4000 ", "+0:0 +1:4000 +2:4000 ");
  RUN(system_call, "", "", "+0:0 +1:4000 +2:4000 ", "+0:0 +1:4000 +2:4000 ");
  RUN(undefined, "signal 4", "signal 4", "signal 4", "signal 4");
  RUN(page_fault, "signal 11", "signal 11", "signal 11", "signal 11");
  RUN(read_debug_register, "signal 11", "signal 11", "signal 11", "signal 11");
  printf("debug traps: %d wrong\n", wrong);
  return wrong != 0;
}
