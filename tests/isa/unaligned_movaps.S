# Alignment is checked before the page walk: #GP(0), not #PF.
# in:  rdi=20002008
# out: fault=d rip=10000000
movaps (%rdi), %xmm0
