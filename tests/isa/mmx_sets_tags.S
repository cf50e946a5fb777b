# An MMX instruction sets TOP to 0, all tags valid, and the exponent to all ones.
# in:  rax=1234
# out: st0=ffff0000000000001234 ftw=ff
movq %rax, %mm0
