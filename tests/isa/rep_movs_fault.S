# REP MOVSB stops at the faulting element with the registers there.
# in:  rsi=20000000 rdi=20001ffe rcx=10 mem:0=aabbccdd
# out: rsi=20000002 rdi=20002000 rcx=e mem:1ffe=aabb fault=e error=6 cr2=20002000 rip=10000000
rep movsb
