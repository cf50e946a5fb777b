# RCL by 9 of a byte is a rotation by 9 mod 9 = 0.
# in:  rax=81 rcx=9 flags=cf
# out: rax=81 flags=cf ignore=of
rcl %cl, %al
