# in:  rsp=8000000000000000
# out: fault=c rip=10000000
push %rax
