# A 66h prefix means nothing to a near branch in 64-bit mode. CPUs of AMD go on at 16 bits of the target.
# native: intel
# in:  flags=none
# out: rip=10000005
.byte 0x66, 0x75, 0x01, 0xcc, 0x90
