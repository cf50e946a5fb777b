# in:  rdi=20000005 rcx=6 rax=aa mem:2=aa flags=df
# out: rdi=20000001 rcx=2 flags=df,zf,pf
repne scasb
