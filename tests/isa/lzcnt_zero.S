# LZCNT and TZCNT of zero give the operand size and CF, unlike BSR and BSF.
# in:  rax=0 flags=none
# out: rbx=40 rcx=20 flags=cf ignore=pf,af,sf,of
lzcnt %rax, %rbx
tzcnt %eax, %ecx
