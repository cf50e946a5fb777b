# Multiboot-1 entry (32-bit protected mode, paging off) to 64-bit mode.
#
# Linear memory: 0..4 GiB maps itself for the supervisor, except that 2..3 GiB (USER_ALIAS) shows physical
# 0..1 GiB to user mode, so that any snippet can also run in ring 3, in 64-bit or compatibility mode.

    .section .multiboot, "a"
    .balign 4
    .long 0x1BADB002, 0, -0x1BADB002

    .text
    .code32
    .globl _start
_start:
    cld
    mov %ebx, boot_info
    mov $boot_stack_end, %esp
    # Page directories: 4 GiB of 2 MiB pages; present, writable, accessed, dirty, large.
    mov $boot_pd, %edi
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $21, %eax
    mov $0xe3, %edx
    cmp $1024, %ecx
    jb 2f
    cmp $1536, %ecx
    jae 2f
    and $0x3fffffff, %eax         # 2..3 GiB: the user alias of 0..1 GiB
    or $4, %edx
2:  cmp $1536, %ecx
    jb 3f
    or $0x10, %edx                # 3..4 GiB holds devices: PCD
3:  or %edx, %eax
    mov %eax, (%edi,%ecx,8)
    movl $0, 4(%edi,%ecx,8)
    inc %ecx
    cmp $2048, %ecx
    jb 1b
    movl $boot_pd + 0x0003, boot_pdpt
    movl $boot_pd + 0x1003, boot_pdpt + 8
    movl $boot_pd + 0x2007, boot_pdpt + 16
    movl $boot_pd + 0x3003, boot_pdpt + 24
    movl $boot_pdpt + 7, boot_pml4

    mov $0x620, %eax              # CR4: PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx         # IA32_EFER: SCE, LME, NXE
    mov $0x901, %eax
    xor %edx, %edx
    wrmsr
    mov $0x80010033, %eax         # CR0: PG, WP, NE, ET, MP, PE
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $start64

    .code64
start64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $boot_stack_end, %rsp
    call runtime_init
    call main
    mov %eax, %edi
    call finish

    .data
    .balign 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00af9b000000ffff      # 08 kernel code, 64-bit
    .quad 0x00cf93000000ffff      # 10 kernel data
    .quad 0x00cffb000000ffff      # 18 user code, 32-bit
    .quad 0x00cff3000000ffff      # 20 user data
    .quad 0x00affb000000ffff      # 28 user code, 64-bit
    .quad 0x00cff3000000ffff      # 30 user data again, where SYSEXIT to 64-bit mode expects it
    .quad 0x00cf9b000000ffff      # 38 kernel code, 32-bit
    .quad 0x00009b000000ffff      # 40 kernel code, 16-bit, base 0, limit 64 KiB
    .quad 0x000093000000ffff      # 48 kernel data, 16-bit
    .fill 7, 8, 0                 # 50..80 free for tests
    .fill 2, 8, 0                 # 88 TSS, filled by runtime_init
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

    .bss
    .balign 4096
    .globl boot_pml4, boot_pdpt, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4 * 4096
    .globl boot_info
boot_info: .skip 16               # where the Multiboot information is
    .skip 16384
boot_stack_end:
    .section .note.GNU-stack, "", @progbits
