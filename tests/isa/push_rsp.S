# PUSH RSP stores the old value; POP RSP loads what was at the old top.
# in:  rsp=20000100 mem:108=0000002000000000
# out: rsp=20000108 mem:f8=0001002000000000 rax=20000100
push %rsp
pop %rax
lea 8(%rsp), %rsp
