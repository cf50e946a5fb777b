# 32-bit results clear the upper half; 8- and 16-bit results keep it.
# in:  rax=ffffffffffffffff rcx=ffffffffffffffff rdx=ffffffffffffffff
# out: rax=1 rcx=ffffffffffff0001 rdx=ffffffffffffff01
mov $1, %eax
mov $1, %cx
mov $1, %dl
