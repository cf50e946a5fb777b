# A failed 32-bit compare-exchange loads EAX, clearing the upper half of RAX.
# in:  rax=ffffffff00000001 rcx=7 rdi=20000010 mem:10=05000000 flags=none
# out: rax=5 flags=cf,pf,af,sf
lock cmpxchg %ecx, (%rdi)
