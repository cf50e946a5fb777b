# BTS with a register index reaches outside the operand: bit -1 is bit 7 of the byte before.
# in:  rax=ffffffffffffffff rdi=20000040 flags=none
# out: mem:38=0000000000000080 flags=none ignore=pf,af,zf,sf,of
bts %rax, (%rdi)
