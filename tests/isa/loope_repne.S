# LOOPE goes on while ZF is 1, whatever prefix it has. On CPUs of AMD F2h turns the condition round.
# native: intel
# in:  rcx=5 rax=7 flags=none
# out: rcx=4 rax=9
.byte 0xf2, 0xe1, 0x05
mov $9, %eax
