# Interrupt entry and run() of 32-bit test kernels; see runtime.h and trap64.S.

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
    pusha
    cld
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %esp, %ebx
    push %ebx
    call trap_dispatch            # returns when a hook handled it
    mov %ebx, %esp
    testl $0x20000, 48(%esp)
    jnz 1f
    mov 44(%esp), %eax          # the interrupted CS: ring 3 gets its data segments back
    and $3, %eax
    jz 1f
    mov $0x23, %eax
    mov %eax, %ds
    mov %eax, %es
1:  popa
    add $8, %esp
    iret

    # int run(struct Context *)
    .globl run
run:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 20(%esp), %eax
    mov %eax, run_context
    mov %esp, run_stack
    testl $0x20000, 48(%eax)      # EFLAGS.VM
    jz 1f
    push 72(%eax)                 # GS, FS, DS, ES
    push 68(%eax)
    push 64(%eax)
    push 60(%eax)
1:  testl $0x20000, 48(%eax)
    jnz 2f
    testl $3, 44(%eax)
    jz 3f
2:  push 56(%eax)                 # SS, ESP
    push 52(%eax)
    jmp 4f
3:  mov 52(%eax), %esp            # same ring: IRET takes the new stack with it
4:  push 48(%eax)
    push 44(%eax)
    push 40(%eax)
    mov 0(%eax), %edi
    mov 4(%eax), %esi
    mov 8(%eax), %ebp
    mov 16(%eax), %ebx
    mov 20(%eax), %edx
    mov 24(%eax), %ecx
    push 28(%eax)
    mov 84(%eax), %eax
    mov %eax, %ds
    mov %eax, %es
    pop %eax
    iret

    # void run_return(int vector)
    .globl run_return
run_return:
    mov 4(%esp), %eax
    mov $0x10, %edx
    mov %edx, %ss
    mov run_stack, %esp
    mov %edx, %ds
    mov %edx, %es
    push $2
    popf
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

    .bss
    .balign 4
    .globl run_context
run_context: .skip 4
run_stack:   .skip 4
    .section .note.GNU-stack, "", @progbits
