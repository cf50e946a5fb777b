# Round up: 1 / 3 in single precision, and PE is set.
# in:  ymm0=3f800000 ymm1=40400000 mxcsr=5f80
# out: ymm0=3eaaaaab mxcsr=5fa0
divss %xmm1, %xmm0
