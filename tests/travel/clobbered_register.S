        .text
// u64 count_to(u64 limit): counts in RBX, and knows another way what it has to be.
        .globl count_to
count_to:
        push    %rbx
        push    %r12
        xor     %ebx, %ebx
        xor     %r12d, %r12d
1:      add     $3, %rbx
        add     $1, %r12
        lea     (%r12, %r12, 2), %rax
        cmp     %rax, %rbx
        jne     2f
        cmp     %rdi, %r12
        jb      1b
        mov     %rbx, %rax
        pop     %r12
        pop     %rbx
        ret
2:      mov     %rbx, %rdi
        call    complain

// Every 50th tick takes the long way, which needs one register more.
        .globl tick
tick:
        push    %rax
        incl    ticks
        cmpl    $50, ticks
        jne     3f
        mov     ticks, %eax
        lea     7(%rax), %ebx           // the bug
        movl    $0, ticks
3:      mov     $0xfee000b0, %eax
        movl    $0, (%rax)              // end of interrupt
        pop     %rax
        iretq
        .section .note.GNU-stack, "", @progbits
