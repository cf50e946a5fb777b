# A store that leaves the mapped pages writes nothing; CR2 is the first byte that is not mapped.
# in:  rax=1122334455667788 rdi=20001ffc mem:1ff8=0102030405060708
# out: fault=e error=6 cr2=20002000 rip=10000000
mov %rax, (%rdi)
