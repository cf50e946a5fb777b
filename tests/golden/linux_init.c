// The one program of the golden Linux boot, as /init of its initramfs: makes processes that talk through a
// pipe, writes files, draws random numbers, reads the clock, sleeps, takes a line from the console, and switches
// the machine off. Without a C library, so that the initramfs is some KiB and changes with this file only.
#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <time.h>

enum { PROCESSES = 8, PAGES = 64, PAGE = 4096 };
static unsigned char pages[PAGES * PAGE];

static long call(long number, long a, long b, long c, long d) {
  long result;
  register long r10 asm("r10") = d;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
               : "rcx", "r11", "memory");
  return result;
}

static void say(const char* text) {
  long length = 0;
  while (text[length]) length++;
  call(SYS_write, 1, (long)text, length, 0);
}

static void say_number(unsigned long value) {
  char text[17];
  for (int i = 0; i < 16; i++) text[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
  text[16] = 0;
  say(text);
}

// Dirties its own copy of the pages and sends what they add up to.
static void child(int number, int to) {
  unsigned long sum = number;
  for (int i = 0; i < PAGES; i++) pages[i * PAGE] += (unsigned char)(number + i), sum = sum * 31 + pages[i * PAGE];
  call(SYS_write, to, (long)&sum, sizeof sum, 0);
  call(SYS_exit, 0, 0, 0, 0);
}

static void talk_to_children(void) {
  int ends[2];
  unsigned long all = 0;
  call(SYS_pipe, (long)ends, 0, 0, 0);
  for (int i = 0; i < PROCESSES; i++) {
    if (call(SYS_fork, 0, 0, 0, 0) == 0) child(i, ends[1]);
    unsigned long sum = 0;
    call(SYS_read, ends[0], (long)&sum, sizeof sum, 0);
    all ^= sum;
    call(SYS_wait4, -1, 0, 0, 0);
  }
  say("children: "), say_number(all), say("\n");
}

static void write_files(void) {
  const long file = call(SYS_open, (long)"/file", O_RDWR | O_CREAT, 0600, 0);
  for (int i = 0; i < 16; i++) call(SYS_write, file, (long)pages, PAGE, 0);
  call(SYS_fsync, file, 0, 0, 0);
  call(SYS_close, file, 0, 0, 0);
}

void _start(void) {
  unsigned long random = 0;
  struct timespec at = {0, 0};
  const struct timespec nap = {0, 20000000};
  char line[64];
  say("golden: started\n");
  talk_to_children();
  write_files();
  call(SYS_getrandom, (long)&random, sizeof random, 0, 0);
  say("random: "), say_number(random), say("\n");
  call(SYS_nanosleep, (long)&nap, 0, 0, 0);
  call(SYS_clock_gettime, CLOCK_REALTIME, (long)&at, 0, 0);
  say("date: "), say_number((unsigned long)at.tv_sec), say("\ngolden: ready\n");
  const long length = call(SYS_read, 0, (long)line, sizeof line, 0);
  say("line: "), call(SYS_write, 1, (long)line, length, 0);
  call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0);
  for (;;) call(SYS_pause, 0, 0, 0, 0);
}
