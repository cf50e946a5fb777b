// Two vCPUs and a mailbox: one takes the letter while the other is still reading it.
#include "apic.h"

// As in tests/guest/smp.c: real mode at 0800:0000, straight to 64-bit mode with the BSP's page tables.
asm(".pushsection .text\n.globl trampoline, trampoline_end\n.code16\ntrampoline:\n"
    "cli\n xor %ax, %ax\n mov %ax, %ds\n"
    "lgdtl 0x8000 + (ap_gdt_pointer - trampoline)\n"
    "mov $0x620, %eax\n mov %eax, %cr4\n"
    "mov 0x8000 + (ap_cr3 - trampoline), %eax\n mov %eax, %cr3\n"
    "mov $0xc0000080, %ecx\n mov $0x901, %eax\n xor %edx, %edx\n wrmsr\n"
    "mov $0x80010033, %eax\n mov %eax, %cr0\n"
    "ljmpl $0x08, $ap_start64\n"
    ".balign 8\nap_gdt_pointer: .word 0x97\n .long gdt\n.balign 8\nap_cr3: .long boot_pml4\n"
    "trampoline_end:\n.code64\n"
    "ap_start64: mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
    "mov $ap_stack + 8192, %rsp\n call collect\n1: cli; hlt; jmp 1b\n.popsection");
extern u8 trampoline[], trampoline_end[];
u8 ap_stack[8192] __attribute__((aligned(16)));

struct Letter {
  u64 stamp;
  const char* text;
};
static struct Letter letters[16];
struct Letter* volatile mailbox;
static volatile u64 collected;

// On the second vCPU: takes each fourth letter out of the mailbox, without asking whether it is being read.
void collect(void) {
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
  LAPIC(LAPIC_SVR) = 0x1ff;
  memcpy((void*)0x8000, trampoline, trampoline_end - trampoline);
  LAPIC(LAPIC_ICR_HIGH) = 1 << 24;
  LAPIC(LAPIC_ICR) = ICR_INIT | ICR_ASSERT;
  for (int i = 0; i < 1000; i++) pause();
  LAPIC(LAPIC_ICR) = ICR_SIPI | ICR_ASSERT | 0x08;
  for (u64 round = 1; round < 1000; round++) {
    struct Letter* letter = &letters[round % 16];
    letter->stamp = round;
    mailbox = letter;
    read_letter(round);
  }
  return 0;
}
