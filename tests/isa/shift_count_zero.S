# A count of zero (after masking) leaves all flags, and still clears the upper half of a 32-bit register.
# in:  rax=ffffffff80000000 rcx=20 flags=cf,of,zf
# out: rax=80000000 flags=cf,of,zf
shl %cl, %eax
