# ZE unmasked: #XM, the destination unchanged, the flag set.
# in:  ymm0=3f800000 ymm1=0 mxcsr=1d80
# out: mxcsr=1d84 fault=13 rip=10000000
divss %xmm1, %xmm0
