# Interrupt entry, and run(): executes a Context until it traps. See runtime.h.

    .text
    .globl trap_stubs
    .balign 16
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    push $0
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call trap_dispatch            # returns when a hook handled it
    mov %rbp, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    # int run(struct Context *): struct layout as pushed above, then cr2, dr6, data selector.
    .globl run
run:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rdi, run_context(%rip)
    mov %rsp, run_stack(%rip)
    mov 192(%rdi), %eax
    mov %eax, %ds
    mov %eax, %es
    push 168(%rdi)                # SS
    push 160(%rdi)                # RSP
    push 152(%rdi)                # RFLAGS
    push 144(%rdi)                # CS
    push 136(%rdi)                # RIP
    mov 0(%rdi), %r15
    mov 8(%rdi), %r14
    mov 16(%rdi), %r13
    mov 24(%rdi), %r12
    mov 32(%rdi), %r11
    mov 40(%rdi), %r10
    mov 48(%rdi), %r9
    mov 56(%rdi), %r8
    mov 72(%rdi), %rsi
    mov 80(%rdi), %rbp
    mov 88(%rdi), %rbx
    mov 96(%rdi), %rdx
    mov 104(%rdi), %rcx
    mov 112(%rdi), %rax
    mov 64(%rdi), %rdi
    .globl run_iret
run_iret:
    iretq

    # Back in the caller of run() after trap_dispatch stored the context; edi = vector.
    .globl run_return
run_return:
    mov run_stack(%rip), %rsp
    push $2
    popfq
    mov $0x10, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov %edi, %eax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .bss
    .balign 8
    .globl run_context
run_context: .skip 8
run_stack:   .skip 8
    .section .note.GNU-stack, "", @progbits
