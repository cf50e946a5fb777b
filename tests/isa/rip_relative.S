# RIP-relative addresses count from the end of the instruction, immediates included.
# in:  mem:8=11
# out: mem:8=33 rax=33 ignore=cf,pf,af,zf,sf,of
addb $0x22, DATA+8(%rip)
movzbl DATA+8(%rip), %eax
