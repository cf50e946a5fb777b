# Not without the feature, whatever the host has.
# cpu: x86-64-v3
# native: no
# in:  rax=1 rbx=2
# out: rax=1 rbx=2 fault=6 rip=10000000
adcx %rbx, %rax
