# cpu: x86-64-v3,+adx
# native: no
# in:  rax=1
# out: rax=1 fault=6 rip=10000000
sha256rnds2 %xmm0, %xmm1, %xmm2
