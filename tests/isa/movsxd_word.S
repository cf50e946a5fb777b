# MOVSXD with 16-bit operands reads two bytes, here the last two of a page. CPUs of AMD read four.
# native: intel
# in:  rcx=20001ffe mem:1ffe=2211
# out: rbp=1122 rip=10000004
.byte 0x66, 0x40, 0x63, 0x29
