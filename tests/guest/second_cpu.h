// Starts a second vCPU, which then runs ap_main().
#pragma once
#include "apic.h"

// Real mode at 0800:0000, straight to 64-bit mode with the BSP's page tables.
asm(".pushsection .text\n.globl trampoline, trampoline_end\n.code16\ntrampoline:\n"
    "cli\n xor %ax, %ax\n mov %ax, %ds\n"
    "lgdtl 0x8000 + (ap_gdt_pointer - trampoline)\n"
    "mov $0x620, %eax\n mov %eax, %cr4\n"
    "mov 0x8000 + (ap_cr3 - trampoline), %eax\n mov %eax, %cr3\n"
    "mov $0xc0000080, %ecx\n mov $0x901, %eax\n xor %edx, %edx\n wrmsr\n"
    "mov $0x80010033, %eax\n mov %eax, %cr0\n"
    "ljmpl $0x08, $ap_start64\n"
    ".balign 8\nap_gdt_pointer: .word 0x97\n .long gdt\n.balign 8\n.globl ap_cr3\nap_cr3: .long boot_pml4\n"
    "trampoline_end:\n.code64\n"
    "ap_start64: mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
    "mov $ap_stack + 8192, %rsp\n lidt ap_idt\n call ap_main\n1: cli; hlt; jmp 1b\n.popsection");
extern u8 trampoline[], trampoline_end[];
u8 ap_stack[8192] __attribute__((aligned(16)));
struct TablePointer ap_idt;

// Puts in place what INIT and SIPI need.
static inline void prepare_second_cpu(void) {
  LAPIC(LAPIC_SVR) = 0x1ff;
  asm volatile("sidt %0" : "=m"(ap_idt));
  memcpy((void*)0x8000, trampoline, trampoline_end - trampoline);
}
static inline void start_second_cpu(void) {
  prepare_second_cpu();
  LAPIC(LAPIC_ICR_HIGH) = 1 << 24;
  LAPIC(LAPIC_ICR) = ICR_INIT | ICR_ASSERT;
  for (int i = 0; i < 1000; i++) pause();
  LAPIC(LAPIC_ICR) = ICR_SIPI | ICR_ASSERT | 0x08;
}
