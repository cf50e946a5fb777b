# Leaves 64-bit mode for real mode and comes back: software interrupts, far transfers, 16-bit addressing, segment
# arithmetic and wrap, big ("unreal") segments, exceptions through the IVT, LOOP/JCXZ and string operations.
# Each of the 16 checks that passes sets its bit in the word at 6F00h.

    .text
    .globl main
main:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, saved_rsp
    sidt saved_idt
    # The 16-bit code runs at 0:7000h.
    mov $low_start, %esi
    mov $0x7000, %edi
    mov $low_end - low_start, %ecx
    rep movsb
    pushq $0x38                   # compatibility mode, 32-bit
    push $leave_long
    lretq
    .code32
leave_long:
    mov $0x10, %eax
    mov %eax, %ss
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0                # paging off: long mode inactive
    mov $0xc0000080, %ecx
    rdmsr
    and $~0x100, %eax
    wrmsr
    mov %cr4, %eax
    and $~0x20, %eax
    mov %eax, %cr4
    # FS stays a 4-GiB segment in real mode.
    mov $0x10, %eax
    mov %eax, %fs
    lidt real_idt
    ljmp $0x40, $0x7000           # 16-bit protected mode first

back32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    ljmp $0x08, $back64
    .code64
back64:
    mov saved_rsp, %rsp
    lidt saved_idt
    movzwl 0x6f00, %eax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    mov %eax, %edi
    mov $0xffff, %esi             # all 16 checks passed
    mov $text, %edx
    mov $file, %ecx
    mov $1, %r8d
    sub $8, %rsp
    call expect_equal
    add $8, %rsp
    xor %eax, %eax
    ret

    .data
    .balign 16
real_idt: .word 0x3ff
    .long 0
saved_idt: .skip 10
    .balign 8
saved_rsp: .quad 0
text: .asciz "checks passed"
file: .asciz "real_mode.S"

    .section .rodata
    .code16
    .set LOW, 0x7000
#define L(label) (LOW + label - low_start)
#define OK(n) orw $(1 << (n)), %ss:0x6f00
low_start:
    # Real mode keeps limits and the B bit of what was loaded last: 64 KiB and 16-bit, except FS.
    mov $0x48, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $L(real)
real:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x6e00, %esp             # all of it: handlers address the stack by ESP
    movw $0, 0x6f00
    # The IVT: our handlers for 0, 6, 40h.
    movw $L(on_divide), 0
    movw $0, 2
    movw $L(on_undefined), 4 * 6
    movw $0, 4 * 6 + 2
    movw $L(on_int), 4 * 0x40
    movw $0, 4 * 0x40 + 2

    # 0: CR0.PE is off, SMSW sees it
    smsw %ax
    test $1, %al
    jnz 1f
    OK(0)
1:  # 1: INT and IRET, flags pushed and restored
    clc
    int $0x40
    jnc 1f
    cmp $0x1234, %ax
    jne 1f
    OK(1)
1:  # 2: #DE comes through vector 0, pushes the address of the DIV
    xor %cx, %cx
    mov $L(divide_next), %bx
divide_at:
    div %cx
divide_next:
    cmp $L(divide_at), %dx
    jne 1f
    OK(2)
1:  # 3: #UD
    mov $L(undefined_next), %bx
    ud2
undefined_next:
    cmp $0x66, %cx
    jne 1f
    OK(3)
1:  # 4: far call, far return, with CS arithmetic
    lcall $0x700, $(far_target - low_start)
    cmp $0x700, %ax
    jne 1f
    OK(4)
1:  # 5: far jump through memory
    movw $L(2f), 0x6f10
    movw $0, 0x6f12
    ljmp *0x6f10
    jmp 1f
2:  OK(5)
1:  # 6: segment base = selector << 4; address 1234:0010 is 12350h
    mov $0x1235, %ax
    mov %ax, %es
    movb $0x5a, %es:0
    mov $0x1234, %ax
    mov %ax, %es
    cmpb $0x5a, %es:0x10
    jne 1f
    OK(6)
1:  # 7: FFFF:0010 is 100000h with A20 on
    mov $0xffff, %ax
    mov %ax, %es
    mov $0x100000, %ebx
    mov %fs:(%ebx), %eax
    cmp %es:0x10, %eax
    jne 1f
    OK(7)
1:  # 8: 16-bit addressing: bx+si, bp+di with SS, disp8 sign-extended, wrap at 64 KiB
    xor %ax, %ax
    mov %ax, %es
    movw $0xbeef, 0x6f20
    mov $0x6f00, %bx
    mov $0x20, %si
    cmpw $0xbeef, (%bx,%si)
    jne 1f
    mov $0x6f30, %bp
    mov $0xfff0, %di
    cmpw $0xbeef, (%bp,%di)
    jne 1f
    mov $0x6f21, %bx
    cmpw $0xbeef, -1(%bx)
    jne 1f
    mov $0xface, %ax
    mov %ax, 0x9000               # MOV with an absolute address (A3) whose bit 15 is set
    mov $0x9000, %bx
    cmp %ax, (%bx)
    jne 1f
    OK(8)
1:  # 9: unreal mode: FS reaches 1 MiB and above
    mov $0x200000, %ebx
    movl $0xcafebabe, %fs:(%ebx)
    cmpl $0xcafebabe, %fs:(%ebx)
    jne 1f
    OK(9)
1:  # 10: LOOP counts CX, not ECX; JCXZ and JECXZ
    mov $0x10005, %ecx
    xor %ax, %ax
2:  inc %ax
    loop 2b
    cmp $5, %ax
    jne 1f
    cmp $0x10000, %ecx
    jne 1f
    jecxz 1f
    jcxz 3f
    jmp 1f
3:  OK(10)
1:  # 11: string instructions with 16-bit registers: SI and DI only
    mov $0x11110000 + 0x6f20, %esi
    mov $0x22220000 + 0x6f40, %edi
    mov $0x10001, %ecx
    cld
    rep movsw
    cmpl $0x22220000 + 0x6f42, %edi
    jne 1f
    cmpl $0x10000, %ecx
    jne 1f
    cmpw $0xbeef, 0x6f40
    jne 1f
    OK(11)
1:  # 12: PUSHF/POPF, PUSHA/POPA with 16-bit stack
    mov %sp, %bp
    pusha
    mov %sp, %ax
    sub %ax, %bp
    cmp $16, %bp
    jne 2f
    popa
    OK(12)
    jmp 1f
2:  popa
1:  # 13: 32-bit operands and addresses by prefix
    mov $0x12345678, %eax
    push %eax
    pop %dx
    pop %cx
    cmp $0x5678, %dx
    jne 1f
    mov $0x6f20, %eax
    mov $4, %ecx
    cmpw $0xbeef, -16(%eax,%ecx,4)
    jne 1f
    OK(13)
1:  # 14: a protected-mode-only instruction is #UD
    mov $L(2f), %bx
    xor %cx, %cx
    .byte 0x0f, 0x00, 0xc8        # STR AX
2:  cmp $0x66, %cx
    jne 1f
    OK(14)
1:  # 15: NEAR call wraps SP and IP in 16 bits; ENTER/LEAVE
    mov %sp, %dx
    mov $0xaaaa, %bp
    enter $8, $0
    mov %bp, %ax
    sub %sp, %ax
    cmp $8, %ax
    jne 2f
    leave
    cmp %sp, %dx
    jne 1f
    cmp $0xaaaa, %bp
    jne 1f
    OK(15)
    jmp 1f
2:  mov %dx, %sp
1:
    # Back to protected mode.
    lgdtl %cs:L(low_gdt_pointer)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x38, $back32

on_int:
    mov $0x1234, %ax
    orw $0x01, %ss:4(%esp)        # CF in the pushed flags
    iret
on_divide:
    mov %sp, %bp
    mov (%bp), %dx                # the IP pushed
    mov %bx, (%bp)
    iret
on_undefined:
    mov %sp, %bp
    mov $0x66, %cx
    mov %bx, (%bp)
    iret
far_target:
    mov %cs, %ax
    lret
    .balign 4
low_gdt_pointer:
    .word 0x97
    .long gdt
low_end:
    .section .note.GNU-stack, "", @progbits
