// Two vCPUs and a mailbox: one takes the letter while the other is still reading it.
#include "second_cpu.h"

struct Letter {
  u64 stamp;
  const char* text;
};
static struct Letter letters[16];
struct Letter* volatile mailbox;
static volatile u64 collected;

// On the second vCPU: takes each fourth letter out of the mailbox, without asking whether it is being read.
__attribute__((noinline)) static void collect(void) {
  for (u64 seen = 0;;) {
    struct Letter* letter = mailbox;
    if (letter && letter->stamp > seen) {
      seen = letter->stamp;
      if (seen % 4 == 0) {
        collected++;
        mailbox = 0;  // the bug
      }
    }
    pause();
  }
}
void ap_main(void) { collect(); }

__attribute__((noinline)) static void read_letter(u64 round) {
  if (!mailbox) return;
  for (int i = 0; i < 20; i++) pause();  // the others get their turn
  if (!mailbox) {
    put_string("the letter is gone\n");
    failures = 1;
    finish(0);
  }
  mailbox->text = round % 2 ? "odd" : "even";
}

int main(void) {
  start_second_cpu();
  for (u64 round = 1; round < 1000; round++) {
    struct Letter* letter = &letters[round % 16];
    letter->stamp = round;
    mailbox = letter;
    read_letter(round);
  }
  return 0;
}
