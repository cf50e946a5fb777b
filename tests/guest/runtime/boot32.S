# Multiboot-1 entry of 32-bit test kernels: own GDT, stack, FPU on; paging stays off.

    .section .multiboot, "a"
    .balign 4
    .long 0x1BADB002, 0, -0x1BADB002

    .text
    .globl _start
_start:
    cld
    mov $boot_stack_end, %esp
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $0x600, %eax              # CR4: OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $0x33, %eax               # CR0: NE, ET, MP, PE
    mov %eax, %cr0
    call runtime_init
    call main
    push %eax
    call finish

    .data
    .balign 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff      # 08 kernel code
    .quad 0x00cf93000000ffff      # 10 kernel data
    .quad 0x00cffb000000ffff      # 18 user code
    .quad 0x00cff3000000ffff      # 20 user data
    .quad 0x00009b000000ffff      # 28 kernel code, 16-bit
    .quad 0x000093000000ffff      # 30 kernel data, 16-bit
    .fill 8, 8, 0                 # 38..70 free for tests
    .quad 0                       # 78 TSS, filled by runtime_init
    .fill 4, 8, 0                 # 80..98 more for tests
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .bss
    .balign 16
    .skip 16384
boot_stack_end:
    .section .note.GNU-stack, "", @progbits
