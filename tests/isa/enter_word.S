# ENTER with 16-bit operands pushes two bytes and leaves the upper part of RBP alone.
# in:  rsp=20000100 rbp=1122334455667788
# out: rsp=200000ee rbp=11223344556600fe mem:fe=8877 rip=10000005
.byte 0x66, 0xc8, 0x10, 0x00, 0x00
