# 64-bit addition with carry in and out.
# in:  rax=ffffffffffffffff rcx=0 flags=cf
# out: rax=0 flags=cf,pf,af,zf
adc %rcx, %rax
