# A quotient that does not fit is #DE, registers unchanged.
# in:  rax=0 rdx=5 rcx=5 flags=none
# out: fault=0 rip=10000000
div %rcx
