# in:  rax=123456789abcdef0 rcx=ff00ff00ff00ff00 flags=cf
# out: rbx=12569ade rdx=120056009a00de00 flags=cf
pext %rcx, %rax, %rbx
pdep %rcx, %rbx, %rdx
