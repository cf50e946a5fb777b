# AH..BH without REX, SPL..DIL with it.
# in:  rax=1122 rbx=3344 rsi=55667788 flags=none
# out: rax=4422 rbx=3344 rsi=55667744 rcx=4400 flags=none
mov %bl, %ah
mov %bl, %sil
mov %bl, %ch
